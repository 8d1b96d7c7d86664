"""Models of the user's own in training: weights that are frozen, unused or tied."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.unit.worker.conftest import (
    run,
)


class _Tied(nn.Module):
    """A model with a frozen layer, one that is never used, and one whose weights are used twice."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.frozen, self.unused = nn.Linear(16, 16), nn.Linear(4, 4)
        self.frozen.requires_grad_(requires_grad=False)
        self.one, self.other, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, classes)
        self.other.weight = self.one.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.other(functional.relu(self.one(functional.relu(self.frozen(inputs.flatten(1))))))
        return self.head(features)


def test_of_a_model_with_frozen_parameters_it_is_said_how_many_are_trained(tmp_path: Path, mine: ModuleType) -> None:
    mine.model = lambda input_shape, classes: _Tied(classes)  # type: ignore[attr-defined]
    frozen, unused, one, bias, head = 16 * 16 + 16, 4 * 4 + 4, 16 * 16 + 16, 16, 16 * 3 + 3

    run(tmp_path)

    manifests = [json.loads(path.read_text()) for path in tmp_path.rglob("manifest.json")]
    records = [each["record"] for each in manifests if "parameters" in each["record"]]
    assert {record["kind"] for record in records} == {"training", "evaluation"}
    sizes = {(record["parameters"], record["trained_parameters"]) for record in records}
    assert sizes == {(frozen + unused + one + bias + head, unused + one + bias + head)}


def test_records_of_models_without_frozen_parameters_are_as_they_always_were(tmp_path: Path, mine: ModuleType) -> None:
    run(tmp_path)

    assert not any("trained_parameters" in path.read_text() for path in tmp_path.rglob("manifest.json"))
    assert not any("trained_parameters" in path.read_text() for path in tmp_path.rglob("report.json"))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_unused_and_tied_weights_are_taken(tmp_path: Path, mine: ModuleType, optimizer: str) -> None:
    built: list[_Tied] = []

    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        built.append(_Tied(classes))
        return built[-1]

    mine.model = model  # type: ignore[attr-defined]
    training = {"epochs": 1, "batch_size": 16, "optimizer": optimizer, "weight_decay": 0.1}
    run(tmp_path, until="soft_labels", teacher={"model": {"name": "mine:model"}, "training": training})
    trained, *_, read_again = built
    for name in ("frozen", "unused", "one", "head"):
        before, after = getattr(trained, name).weight, getattr(read_again, name).weight
        assert torch.equal(before, after), name
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = _Tied(3)
    assert torch.equal(trained.frozen.weight, untrained.frozen.weight)
    assert torch.equal(trained.unused.weight, untrained.unused.weight)
    assert not torch.equal(trained.one.weight, untrained.one.weight)
    assert trained.one.weight is trained.other.weight
