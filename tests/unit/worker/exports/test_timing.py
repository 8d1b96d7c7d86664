"""Files are timed in a process of their own; what goes wrong there is said in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill_queue.shared.errors import StageFailed
from distill_queue.worker.exports.timing import timed

RUNNER = "distill_queue.worker.exports.onnx_file:File"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    np.savez(tmp_path / "sample.npz", input=np.zeros((1, 4), np.float32))
    return tmp_path / "sample.npz"


def test_a_file_that_cannot_be_loaded_fails_in_one_line(tmp_path: Path, sample: Path) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"no model")

    with pytest.raises(StageFailed) as error:
        timed(RUNNER, damaged, sample, 1)

    assert str(error.value).startswith(f"model.onnx: {RUNNER} fails in a process of its own: ")
    assert "\n" not in str(error.value)


def test_a_runner_that_is_not_there_fails_in_one_line(tmp_path: Path, sample: Path) -> None:
    with pytest.raises(StageFailed, match="No module named 'nowhere_at_all'"):
        timed("nowhere_at_all:File", tmp_path / "model.onnx", sample, 1)
