"""Quiet: keeps what libraries tell their developers off the worker's log."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's warnings off the log, and undo what it changes of the process's logging."""
    level, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.handlers[:] = handlers


@contextmanager
def quiet_native() -> Iterator[None]:
    """Keep off what native code writes to stderr; for short moments only, as other threads' lines are lost too."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with redirect_stderr(io.StringIO()):  # Some goes through Python's, which need not lead to the same place.
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
