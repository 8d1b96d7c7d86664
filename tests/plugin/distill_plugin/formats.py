"""A format: torch's own exported programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill_queue.worker.exports.job import ExportJob


class Program:
    """Writes `.pt2` files and runs them."""

    file_name, integers = "model.pt2", False
    operators: dict[str, int] = {}  # noqa: RUF012

    @staticmethod
    def write(job: ExportJob, path: Path) -> None:
        """Write a student for batches of any size."""
        batch = torch.export.Dim("batch", min=1)
        samples = tuple(torch.zeros(2, *each.shape, dtype=each.kind) for each in job.model.inputs)
        torch.export.save(torch.export.export(job.model, samples, dynamic_shapes=(({0: batch},) * len(samples),)), path)

    def __init__(self, path: Path, threads: int) -> None:
        self._program, self.runtime = torch.export.load(path).module(), f"torch {torch.__version__}"

    def logits(self, samples: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Logits of raw samples."""
        with torch.inference_mode():
            return self._program(*map(torch.from_numpy, samples.values())).numpy()
