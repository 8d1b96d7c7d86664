"""User's own code by name: `package.module:callable`, from allowed packages only."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from billiard.common import terminate_handler_fired

from distill_queue.shared.errors import DistillError, InvalidSpec, Unavailable
from distill_queue.shared.text import plain_line, said
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.generators import seed_generators
from distill_queue.worker.machine.outages import can_pass

#: Errors of code that is wrong, or is called in a wrong way: another try would raise them again.
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

#: The most characters of an error in the user's code that become part of a message.
LONGEST_ERROR = 500

#: The names of our packages before they became parts of `distill_queue`.
OLD_NAMES = ("scheduler", "shared", "worker")

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
    # A module's imports are not its own functions: its `run` may be that of `subprocess`.
    own = value.func if isinstance(value, partial) else value
    if (home := str(getattr(own, "__module__", "")).partition(".")[0]) != package:
        raise InvalidSpec(f"{reference}: comes from '{home}': write a function in '{package}' that calls it")
    return value


@contextmanager
def called(reference: str, *, by_line: bool = False) -> Iterator[None]:
    """Raise an error in the user's code as one that names its place; without a reference, no code is the user's.

    Args:
        reference: of the code that is called; several are joined by ` or `.
        by_line: whether only errors that came through a line of that code are the user's.

    Raises:
        InvalidSpec: the code has a mistake, which another try would repeat; `sys.exit()` is one.
        Unavailable: something outside the code does not work for now, such as a network.

    """
    try:
        yield
    except DistillError:
        raise
    except BaseException as error:
        if memory.is_short(error):  # The user's code asked for it, and may get it elsewhere.
            raise
        packages = _packages_of(reference)
        if not _is_the_users(error, packages, by_line=by_line):
            raise
        logger.error("%s raised", reference, exc_info=error)
        words = f"{type(error).__name__}: {said(error)}".removesuffix(": ")
        if len(words) > LONGEST_ERROR:
            words = f"{words[:LONGEST_ERROR]} … (more of it is in the log)"
        if isinstance(error, SystemExit | KeyboardInterrupt):
            words += ": code that a worker calls must not end its process"
        words += _new_name(error)
        problem = f"{reference}: {words}{_file_read(error, words)} ({_place(error, packages)})"
        if can_pass(error):
            raise Unavailable(problem) from error
        raise InvalidSpec(problem) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the default generators of torch, NumPy and Python, and restore them at the block's end."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            seed_generators(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def own_line(error: BaseException, reference: str) -> str:
    """The deepest line of the user's own code that an error came through, in brackets; empty if there is none."""
    packages = _packages_of(reference)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if _package(_module(frame)) in packages]
    return f" ({_place(error, packages)})" if lines else ""


def _new_name(error: BaseException) -> str:
    """Words about the new name of a package of ours that the user's code imports by its old one; else empty."""
    package = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return f": distill-queue's {package} is imported as distill_queue.{package}" if package in OLD_NAMES else ""


def _packages_of(reference: str) -> set[str]:
    """The packages in a reference, or in several references joined by ` or `."""
    return {_package(each.partition(":")[0]) for each in reference.split(" or ") if ":" in each}


def _is_the_users(error: BaseException, packages: set[str], *, by_line: bool) -> bool:
    """Whether an error is the user's code's: by its class, or because it came through a line of that code."""
    if not packages or isinstance(error, GeneratorExit) or _package(type(error).__module__) == "billiard":
        return False  # Billiard's errors are the time limit's.
    if isinstance(error, SystemExit) and terminate_handler_fired():
        return False  # Billiard raised it too: a signal ended the process.
    of_a_kind = _package(type(error).__module__) in packages or isinstance(error, (*MISTAKES, OSError))
    if of_a_kind and not by_line:
        return True
    if not any(_package(_module(frame)) in packages for frame, _ in traceback.walk_tb(error.__traceback__)):
        return False
    if isinstance(error, KeyboardInterrupt):  # It counts if no user can have pressed Ctrl-C.
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    # Celery ends a worker by subclasses of SystemExit, pytest a test by errors of its own.
    return of_a_kind or isinstance(error, Exception | asyncio.CancelledError) or type(error) is SystemExit


def _place(error: BaseException, packages: set[str]) -> str:
    """The deepest line of the user's own code that an error came through; without one, the deepest line of all."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name}:{error.lineno}"
    lines = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in lines if _package(_module(frame)) in packages]
    frame, line = (own or lines)[-1]
    path = Path(frame.f_code.co_filename)
    below = len(_module(frame).split(".")) + (path.stem == "__init__") if own else 1
    return f"{'/'.join(path.parts[-below:])}:{line}"


def _file_read(error: BaseException, words: str) -> str:
    """Words with the name of the file that a library was reading, if the error's own text lacks it.

    Pillow says "image file is truncated" without the file's name, which the object that was reading knows.
    """
    readers = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    names = [getattr(each, "__dict__", {}).get("filename") for each in readers]
    for name in (getattr(error, "filename", None), *reversed(names)):
        if isinstance(name, str | Path) and str(name) and not isinstance(error, SyntaxError):
            shown = plain_line(str(name))
            return "" if shown in words else f" in {shown}"
    return ""


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _package(module: str) -> str:
    return module.partition(".")[0]
