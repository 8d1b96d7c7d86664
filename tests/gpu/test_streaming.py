"""Samples that stay on the disk and go to the device through pinned memory: the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split, take
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, fit
from distill_queue.worker.training.objective import Goal
from tests.gpu.conftest import images, plan, run

pytestmark = pytest.mark.gpu

SAMPLES = 700


@pytest.fixture
def record(tmp_path: Path) -> DatasetRecord:
    """A packed data set in the test's folder."""
    return Arrays(*images(SAMPLES, 1), *images(10, 2), tuple(map(str, range(10)))).save(tmp_path)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"shift": 2, "flip": True, "cutout": 2}, {"mixup": 0.5}], ids=str)
def test_a_streamed_training_gives_the_same_weights(
    tmp_path: Path, record: DatasetRecord, runtime: Runtime, changes: dict[str, Any], precision: torch.dtype
) -> None:
    logits = np.random.default_rng(1).normal(size=(3, SAMPLES, 10)).astype(np.float16)
    weights = []

    for streamed in (False, True):
        split = Split.open(tmp_path, "train", record, runtime.device, streamed=streamed)
        columns = (logits if streamed else torch.from_numpy(logits).to(runtime.device),)
        teacher_logits = TeacherLogits(Encoding(dtype="float16"), 10, columns)
        batches = Batches(split, AugmentationSpec.model_validate(changes), 3, precision, teacher_logits)
        model = models.build(plan_of_a_cnn(), record, runtime, 0)
        members = [Member(model, TrainingSpec(epochs=4, batch_size=32), Goal(DistillationSpec(alpha=0.5)))]
        fit(members, batches, None, precision, lambda *_: None, Checkpoints(tmp_path / str(streamed), 1e9))
        weights.append(model.state_dict())

    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def plan_of_a_cnn() -> Any:
    return plan({"name": "cnn", "width": 8, "depth": 2}).trunk[1].recipe.model


def test_rows_that_are_read_ahead_arrive_as_they_are_on_the_disk(
    tmp_path: Path, record: DatasetRecord, device: torch.device
) -> None:
    split = Split.open(tmp_path, "train", record, device, streamed=True)
    rows = [torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed))[:256] for seed in range(60)]
    batches = Batches(split, AugmentationSpec(), 1, torch.float32)
    busy = torch.randn(512, 512, device=device)

    seen = []
    for batch in batches.each([each[None] for each in rows], 0):
        busy = busy @ busy / 512  # The copies of later batches have something to overtake.
        seen.append(batch.inputs[0])

    whole = split.read_whole()
    for each, inputs in zip(rows, seen, strict=True):
        assert torch.equal(inputs, whole.normalised(each.to(device)))


def test_rows_of_a_mapped_array_are_copied_before_their_memory_is_used_again(device: torch.device) -> None:
    array = np.random.default_rng(0).integers(0, 256, (4_096, 1_024), dtype=np.uint8)
    rows = torch.arange(4_096)

    taken = [take(array, rows[start : start + 1_024], device) for start in range(0, 4_096, 1_024) for _ in range(8)]

    for number, each in enumerate(taken):
        start = number // 8 * 1_024
        assert torch.equal(each.cpu(), torch.from_numpy(array[start : start + 1_024])), number


def test_a_stage_whose_data_do_not_fit_streams_them_to_the_same_bytes(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan(precision="float32")
    roomy = run(asked, tmp_path / "roomy", runtime, "train_teacher")["train_teacher"]
    opened: list[bool] = []
    read_whole = Split.read_whole
    monkeypatch.setattr(Split, "read_whole", lambda split: opened.append(True) or read_whole(split))

    tight = Runtime(runtime.device, runtime.plugins, memory_gb=2.5e-3)  # The samples alone take as much.
    narrow = run(asked, tmp_path / "narrow", tight, "train_teacher")["train_teacher"]

    assert not opened, "the samples were read whole"
    assert narrow.path("model.safetensors").read_bytes() == roomy.path("model.safetensors").read_bytes()
