"""Quiet: keeps what libraries tell their developers off the worker's log."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the log and the terminal what libraries say in this thread to those who develop them."""
    with _unlogged(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


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


@contextmanager
def _unlogged() -> Iterator[None]:
    """Have no handler take what this thread logs, and undo what a library changes of the process's logging.

    Other threads may have to say that a lease was lost.
    """
    own, of_root = threading.get_ident(), list(logging.root.handlers)
    known = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(each for each in known if isinstance(each, logging.Logger))]
    handlers = [handler for each in loggers for handler in each.handlers] + [logging.lastResort]

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != own

    for each in filter(None, handlers):
        each.addFilter(is_of_others)
    try:
        yield
    finally:
        for each in filter(None, handlers):
            each.removeFilter(is_of_others)
        logging.root.handlers[:] = of_root
