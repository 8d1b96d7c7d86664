"""An ONNX file as onnxruntime runs it; this module loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.line import shortened

#: Characters of what onnxruntime says.
LONGEST_REASON = 300


class File:
    """A file whose answers are asked for, by a number of threads."""

    @staticmethod
    def load_library() -> None:
        """Load the runtime, which a cold start does not count."""
        import onnxruntime  # noqa: F401

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # Errors only.
        self._path = path
        with _problems():
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def logits(self, samples: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Logits `[samples, classes]` of raw samples by the names of the file's inputs."""
        with _problems():
            found: npt.NDArray[np.float32] = self._session.run(None, dict(samples))[0]
        return found

    @property
    def operators(self) -> dict[str, int]:
        """How often the file has each operator, the most frequent first."""
        import onnx

        return dict(Counter(node.op_type for node in onnx.load(self._path).graph.node).most_common())


@contextmanager
def _problems() -> Iterator[None]:
    """Say that a file does not run, in onnxruntime's words.

    Raises:
        StageFailed: it does not.

    """
    try:
        yield
    except Exception as error:  # A class for each of its codes, without a common one.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        said = shortened(" ".join(str(error).split()), LONGEST_REASON)
        raise StageFailed(
            f"onnxruntime cannot run the exported file: {said}: a model in another type than float32, such as "
            "bfloat16, has operations that it lacks"
        ) from error
