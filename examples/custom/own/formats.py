"""A format that distill-queue does not have: an MLP's matrices in one `.npz`, for programs with NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.worker.exports.job import ExportJob


class NumpyFile:
    """Writes such files, and runs them."""

    file_name = "model.npz"
    #: Not integers of 8 bits: no answer may change.
    integers = False

    @staticmethod
    def write(job: ExportJob, path: Path) -> None:
        """Write an `mlp` as its layers' weights and biases, and what its one input is normalised by.

        Raises:
            ValueError: it is another model.

        """
        tensors = {name: tensor.numpy() for name, tensor in job.model.model.state_dict().items()}
        if not {"head.weight", "head.bias"} <= tensors.keys() or any(tensor.ndim > 2 for tensor in tensors.values()):
            raise ValueError(f"{job.name}: this format is for an mlp")
        (only,) = job.model.inputs
        if only.mean is None or only.std is None:
            raise ValueError(f"{job.name}: this format is for measurements")
        np.savez(path, allow_pickle=False, mean=only.mean.numpy(), std=only.std.numpy(), **tensors)

    def __init__(self, path: Path, threads: int) -> None:  # noqa: ARG002  # NumPy has threads of its own.
        with np.load(path) as arrays:
            self._arrays = dict(arrays)
        names = {name.rpartition(".")[0] for name in self._arrays if name.startswith("layers.")}
        self._layers = sorted(names, key=lambda name: int(name.partition(".")[2]))
        self.runtime = f"numpy {np.__version__}"

    @property
    def operators(self) -> dict[str, int]:
        """How many products there are."""
        return {"matmul": len(self._layers) + 1}

    def logits(self, samples: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Logits `[samples, classes]` of raw samples."""
        arrays, (raw,) = self._arrays, samples.values()
        features = ((raw.astype(np.float32) - arrays["mean"]) / arrays["std"]).reshape(len(raw), -1)
        for layer in self._layers:
            features = np.maximum(features @ arrays[f"{layer}.weight"].T + arrays[f"{layer}.bias"], 0.0)
        logits: npt.NDArray[np.float32] = features @ arrays["head.weight"].T + arrays["head.bias"]
        return logits
