"""Capture: a student's forward as torch's own graph, for batches of any size."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch

from distill_queue.worker.exports.deployable import example
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.problems import problems

#: Samples of the batch that a forward is traced with: of one, torch would take the size for a constant.
TRACED_SAMPLES = 2


def captured(job: ExportJob) -> Any:
    """A student's forward as `torch.export`'s program, the size of a batch open.

    Raises:
        StageFailed: the forward cannot be captured.

    """
    inputs, batch = job.model.inputs, torch.export.Dim("batch", min=1)
    with quiet(), problems(job):
        return torch.export.export(
            job.model,
            example(inputs, TRACED_SAMPLES),
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            strict=False,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what this thread is told by libraries, for their developers, off the log and the terminal."""
    with _unlogged(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _unlogged() -> Iterator[None]:
    """Have no handler take what this thread logs; other threads may have to say that a lease was lost."""
    own, known = threading.get_ident(), logging.root.manager.loggerDict.values()
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
