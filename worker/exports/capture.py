"""Capture: a student's forward as torch's own graph, for batches of any size."""

from __future__ import annotations

from typing import Any

import torch

from distill_queue.worker.exports.deployable import example
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.problems import problems
from distill_queue.worker.exports.quiet import quiet

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
