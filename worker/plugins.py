"""User's own code by name: `package.module:callable`, from allowed packages only."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from shared.errors import InvalidSpec


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
    except (ImportError, AttributeError) as error:
        raise InvalidSpec(f"{reference}: {error}") from error
    if not callable(value):
        raise InvalidSpec(f"{reference}: not callable")
    return value
