"""Data that stay on the disk: the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.batches import READ_AHEAD, Batches
from distill_queue.worker.data.split import Split, take
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.models import Mlp
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, fit
from distill_queue.worker.training.objective import Goal

CPU = torch.device("cpu")
SAMPLES = 150


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A packed data set of random images."""
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (SAMPLES, 1, 6, 6), dtype=np.uint8)
    targets = random.integers(0, 3, SAMPLES)
    record = Arrays(inputs, targets, inputs[:10], targets[:10], ("a", "b", "c")).save(tmp_path)
    (tmp_path / "record.json").write_text(record.model_dump_json())
    return tmp_path


def split(folder: Path, *, streamed: bool) -> Split:
    record = DatasetRecord.model_validate_json((folder / "record.json").read_text())
    return Split.open(folder, "train", record, CPU, streamed=streamed)


def trained(folder: Path, augmentation: AugmentationSpec, *, streamed: bool) -> dict[str, torch.Tensor]:
    """The weights of a student that was distilled from random logits, on three views."""
    logits = np.random.default_rng(1).normal(size=(3, SAMPLES, 3)).astype(np.float16)
    columns = (logits if streamed else torch.from_numpy(logits),)
    teacher_logits = TeacherLogits(Encoding(dtype="float16"), 3, columns)
    batches = Batches(split(folder, streamed=streamed), augmentation, 3, torch.float32, teacher_logits)
    torch.manual_seed(0)
    model = Mlp(36, (8,), 3)
    training = TrainingSpec(epochs=4, batch_size=16)
    members = [Member(model, training, Goal(DistillationSpec(alpha=0.5)))]
    checkpoints = Checkpoints(folder / str(streamed), 1e9)
    fit(members, batches, split(folder, streamed=streamed), torch.float32, lambda *_: None, checkpoints)
    return model.state_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shift": 2, "flip": True, "cutout": 2},
        {"mixup": 0.5},
        {"crop": {}, "jitter": {"contrast": 0.4}, "cutmix": 0.5},
    ],
)
def test_a_streamed_training_gives_the_same_weights(folder: Path, changes: dict[str, Any]) -> None:
    augmentation = AugmentationSpec.model_validate(changes)
    in_memory = trained(folder, augmentation, streamed=False)
    streamed = trained(folder, augmentation, streamed=True)
    assert all(torch.equal(in_memory[name], streamed[name]) for name in in_memory)


def test_no_more_is_read_ahead_than_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counting(source: torch.Tensor | Array, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        taken.append(len(rows))
        return take(source, rows, device)

    monkeypatch.setattr("distill_queue.worker.data.batches.take", counting)
    batches = Batches(split(folder, streamed=True), AugmentationSpec(), None, torch.float32)
    stream = batches.each(torch.arange(SAMPLES)[None].split(10, dim=1), 0)
    for number, batch in enumerate(stream, start=1):
        assert batch.inputs.shape == (1, 10, 1, 6, 6)
        assert number <= len(taken) <= number + READ_AHEAD
    assert len(taken) == SAMPLES / 10


def test_an_error_while_reading_ahead_ends_the_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr("distill_queue.worker.data.batches.take", broken)
    batches = Batches(split(folder, streamed=True), AugmentationSpec(), None, torch.float32)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches.each((torch.arange(4)[None],), 0))
