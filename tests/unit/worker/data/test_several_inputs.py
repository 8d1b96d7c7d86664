"""Samples of several inputs: packed as records, and back as what they were, however they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.records import laid_together
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation import cost, quality
from distill_queue.worker.machine import memory
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, fit
from distill_queue.worker.training.objective import Goal

CPU = torch.device("cpu")
SAMPLES = 60
RANDOM = np.random.default_rng(0)
INPUTS = {
    "mask": RANDOM.integers(0, 2, (SAMPLES, 5)).astype(bool),
    "ids": RANDOM.integers(0, 9, (SAMPLES, 5)).astype(np.int16),
    "row": RANDOM.normal(3, 2, (SAMPLES, 2)),
    "age": RANDOM.integers(0, 99, SAMPLES).astype(np.uint8),
}
TARGETS = np.arange(SAMPLES) % 3


class Net(nn.Module):
    """A model that takes all four."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(7, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, row: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        words = (self.words(ids) * mask[..., None]).sum(1)
        return self.head(torch.cat((words, row, age[:, None]), 1))


@pytest.fixture
def record(tmp_path: Path) -> DatasetRecord:
    """The packed data set in a folder."""
    inputs = laid_together("mine:data", INPUTS)
    return Arrays(inputs, TARGETS, inputs[:9], TARGETS[:9], ("a", "b", "c"), own=True).save(tmp_path)


@pytest.mark.parametrize("streamed", [False, True])
def test_each_input_comes_back_as_the_model_takes_it(record: DatasetRecord, tmp_path: Path, streamed: bool) -> None:
    split = Split.open(tmp_path, "train", record, CPU, streamed=streamed)
    rows = torch.tensor([[7, 3, 59, 7]])

    inputs = Batches(split, AugmentationSpec(), None, torch.float32)(rows, 0).inputs

    assert isinstance(inputs, dict)
    places = rows[0].numpy()
    assert (inputs["mask"][0].numpy() == INPUTS["mask"][places]).all()
    assert inputs["ids"].dtype == torch.int64
    assert (inputs["ids"][0].numpy() == INPUTS["ids"][places]).all()
    for name in ("row", "age"):
        wanted = (INPUTS[name] - INPUTS[name].mean(0)) / INPUTS[name].std(0)
        assert np.allclose(inputs[name][0].numpy(), wanted[places], atol=1e-5)


def test_a_streamed_training_gives_the_same_weights(record: DatasetRecord, tmp_path: Path) -> None:
    def trained(*, streamed: bool) -> dict[str, torch.Tensor]:
        split = Split.open(tmp_path, "train", record, CPU, streamed=streamed)
        torch.manual_seed(0)
        members = [Member(model := Net(), TrainingSpec(epochs=3, batch_size=16), Goal())]
        batches = Batches(split, AugmentationSpec(), None, torch.float32)
        fit(members, batches, split, torch.float32, lambda *_: None, Checkpoints(tmp_path / str(streamed), 1e9))
        return model.state_dict()

    in_memory, from_disk = trained(streamed=False), trained(streamed=True)

    assert all(torch.equal(in_memory[name], from_disk[name]) for name in in_memory)


def test_such_a_model_is_scored_counted_and_estimated(record: DatasetRecord, tmp_path: Path) -> None:
    split, model = Split.open(tmp_path, "train", record, CPU), Net()

    assert quality.logits_of(model, split, lambda *_: None, 7).shape == (SAMPLES, 3)
    assert cost.multiply_adds(model, split, "layers") == 21
    assert cost.throughput(model, split, 16) > 0
    need = memory.of_training([model], TrainingSpec(), split.normalised(slice(0, 1)), torch.float32, 0)
    assert need.sample > 0


@pytest.mark.parametrize("changes", [{"shift": 1}, {"mixup": 0.5}])
def test_they_have_no_views(record: DatasetRecord, tmp_path: Path, changes: dict[str, float]) -> None:
    split = Split.open(tmp_path, "train", record, CPU)

    with pytest.raises(InvalidSpec, match="a sample is mask and ids and row and age, which have no views together"):
        Batches(split, AugmentationSpec.model_validate(changes), None, torch.float32)
