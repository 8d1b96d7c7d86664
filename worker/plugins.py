"""User's own code by name: `package.module:callable`, from allowed packages only."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.errors import DistillError, InvalidSpec, Unavailable

#: What code raises that is wrong or called in a wrong way: it would do so again.
MISTAKES: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    FileNotFoundError,
    ImportError,
    IsADirectoryError,
    LookupError,
    NameError,
    NotADirectoryError,
    PermissionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

#: Characters of an error in the user's code that are told to everybody.
LONGEST_ERROR = 500

logger = logging.getLogger(__name__)


def load(reference: str, allowed: tuple[str, ...]) -> Callable[..., Any]:
    """The callable that a reference names.

    Raises:
        InvalidSpec: its package is not allowed on this worker, or has no such callable of its own.

    """
    module_name, _, name = reference.partition(":")
    package = module_name.partition(".")[0]
    if package not in allowed:
        raise InvalidSpec(
            f"{reference}: this worker does not import '{package}': start it with DISTILL_PLUGINS={package}"
        )
    with called(reference):
        value = getattr(import_module(module_name), name)
    if not callable(value):
        raise InvalidSpec(f"{reference}: not callable")
    # What a module has imported is not what it offers: its `run` may be that of `subprocess`.
    own = value.func if isinstance(value, partial) else value
    if (home := str(getattr(own, "__module__", "")).partition(".")[0]) != package:
        raise InvalidSpec(f"{reference}: comes from '{home}': write a function in '{package}' that calls it")
    return value


@contextmanager
def called(reference: str) -> Iterator[None]:
    """Say of an error in the user's code that it is there, and where; without a reference, nothing is the user's.

    Raises:
        InvalidSpec: a mistake, which would be made again.
        Unavailable: something outside does not work for now, as a network.

    """
    try:
        yield
    except (DistillError, MemoryError):
        raise
    except Exception as error:
        own = type(error).__module__.partition(".")[0] == reference.partition(":")[0].partition(".")[0]
        if not reference or (not isinstance(error, (*MISTAKES, OSError)) and not own):
            raise
        logger.error("%s raised", reference, exc_info=error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        if len(said) > LONGEST_ERROR:
            said = f"{said[:LONGEST_ERROR]} … (all of it is in the log)"
        problem = f"{reference}: {said} ({Path(last.filename).name}:{last.lineno})"
        if isinstance(error, OSError) and not isinstance(error, MISTAKES):
            raise Unavailable(problem) from error
        raise InvalidSpec(problem) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python that code draws from unasked, and put them back after it."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
