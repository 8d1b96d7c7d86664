"""User's own code by name: `package.module:callable`, from allowed packages only."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.errors import InvalidSpec, Unavailable

#: What code raises that is wrong or called in a wrong way: it would do so again.
MISTAKES: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileNotFoundError,
    ImportError,
    LookupError,
    NameError,
    NotADirectoryError,
    PermissionError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load(reference: str, allowed: tuple[str, ...]) -> Callable[..., Any]:
    """The callable that a reference names.

    Raises:
        InvalidSpec: its package is not allowed on this worker, or there is no such callable.

    """
    module_name, _, name = reference.partition(":")
    package = module_name.partition(".")[0]
    if package not in allowed:
        raise InvalidSpec(
            f"{reference}: this worker does not import '{package}': start it with DISTILL_PLUGINS={package}"
        )
    try:
        value = getattr(import_module(module_name), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InvalidSpec(f"{reference}: {error}") from error
    if not callable(value):
        raise InvalidSpec(f"{reference}: not callable")
    return value


@contextmanager
def called(reference: str) -> Iterator[None]:
    """Say of an error in the user's code that it is there, and where.

    Raises:
        InvalidSpec: a mistake, which would be made again.
        Unavailable: something outside does not work for now, as a network.

    """
    try:
        yield
    except MISTAKES as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise InvalidSpec(f"{reference}: {type(error).__name__}: {error} ({place})") from error
    except OSError as error:
        raise Unavailable(f"{reference}: {error}") from error
