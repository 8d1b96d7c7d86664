"""Models of the user's own: how they are tried when they are built, and which are refused."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker import models
from distill_queue.worker.data.load import load as load_data
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime
from tests.unit.worker.conftest import (
    CPU,
    run,
    take_as_its_own,
)


def test_a_forward_that_fails_is_named_with_the_users_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: ModuleType
) -> None:
    (tmp_path / "fails.py").write_text(
        "import sys\nfrom torch import nn\n\nclass Model(nn.Linear):\n    def forward(self, x):\n"
        "        return sys.exit(1) if self.in_features == 1 else super().forward(x)\n\n"
        "def model(input_shape, classes, width):\n    return Model(width, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    record = load_data(NamedDatasetSpec(name="digits"), Reading(CPU)).save(tmp_path)
    allowed = Runtime(torch.device("cpu"), plugins=("fails",))

    def build(width: int) -> None:
        models.build(CustomModelSpec(name="fails:model", options={"width": width}), record, allowed)

    with pytest.raises(InvalidSpec, match=r"does not take samples of shape \(1, 8, 8\): .*mat1 .* \(fails.py:6\)$"):
        build(7)
    with pytest.raises(InvalidSpec, match=r"SystemExit: 1: code that a worker calls .* \(fails.py:6\)$"):
        build(1)
    sys.modules.pop("fails")


class _Pair(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> Any:
        logits = super().forward(inputs.flatten(1))
        return logits, logits


class _InTraining(nn.Module):
    """A model that returns something else in training mode only."""

    def __init__(self, classes: int, other: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.norm, self.head, self.other = nn.BatchNorm2d(1), nn.Linear(16, classes), other
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: torch.Tensor) -> Any:
        logits = self.head(functional.dropout(self.norm(inputs), training=self.training).flatten(1))
        self.seen = self.seen + 1
        return self.other(logits) if self.training else logits


def test_the_trial_in_training_mode_leaves_the_model_and_all_random_numbers_as_they_were(
    tmp_path: Path, mine: ModuleType
) -> None:
    built: list[nn.Module] = []

    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        built.append(_InTraining(classes, lambda logits: logits + float(np.random.rand()) + random.random()))
        return built[-1]

    mine.model = model  # type: ignore[attr-defined]
    take_as_its_own(mine)
    record = (
        load_data(NamedDatasetSpec(name="digits"), Reading(CPU)).save(tmp_path).model_copy(update={"shape": (1, 4, 4)})
    )
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    made = models.build(CustomModelSpec(name="mine:model"), record, CPU, seed=1)

    assert made is built[0]
    assert made.training
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states
    fresh = nn.BatchNorm2d(1).state_dict()
    assert all(torch.equal(made.norm.state_dict()[name], tensor) for name, tensor in fresh.items())
    assert made.seen.item() == 0.0


class _FromTheFirstBatch(nn.Module):
    """A model that sets its scale by the first batch that it is trained on, as ActNorm does."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head, self.scale, self.begun = nn.Linear(features, classes), nn.Parameter(torch.ones(())), False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and not self.begun:
            self.begun = True
            with torch.no_grad():
                self.scale.copy_(1.0 / (inputs.std() + 0.001))
        return self.head(inputs.flatten(1) * self.scale)


def test_a_model_that_begins_with_its_first_training_batch_has_seen_none_when_it_is_built(
    tmp_path: Path, mine: ModuleType
) -> None:
    mine.model = lambda input_shape, classes: _FromTheFirstBatch(64, classes)  # type: ignore[attr-defined]
    take_as_its_own(mine)
    record = load_data(NamedDatasetSpec(name="digits"), Reading(CPU)).save(tmp_path)

    made = models.build(CustomModelSpec(name="mine:model"), record, CPU, seed=1)

    assert isinstance(made, _FromTheFirstBatch)
    assert (made.begun, made.scale.item()) == (False, 1.0)


class _Lookup(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return {}["missing"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda classes: nn.Linear(16, classes), "mine:model: TypeError.*input_shape"),
        (lambda input_shape, classes: 1 / 0, "mine:model: ZeroDivisionError"),
        (lambda input_shape, classes: "a model", "must return a torch.nn.Module"),
        (lambda input_shape, classes: _Pair(16, classes), "model mine:model returns tuple of 2, not logits"),
        (lambda input_shape, classes: _Lookup(16, classes), "does not take samples"),
        (lambda input_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(16, 7)), "returns 7 .* the data have 3"),
        (
            lambda input_shape, classes: nn.Linear(4, classes),
            r"returns a tensor \[2, 1, 4, 3\] of 2 samples, not logits",
        ),
        (
            lambda input_shape, classes: _InTraining(classes, lambda logits: (logits, logits)),
            r"model mine:model in training mode returns tuple of 2, not logits \[samples, classes\]: return the",
        ),
        (
            lambda input_shape, classes: _InTraining(classes, lambda logits: {"out": logits, "aux": logits}),
            "model mine:model in training mode returns dict with out, aux, not logits",
        ),
        (
            lambda input_shape, classes: _InTraining(classes, lambda logits: None),
            "model mine:model in training mode returns None, .*: forward ends without a return",
        ),
        (
            lambda input_shape, classes: _InTraining(classes, lambda logits: logits.argmax(1, keepdim=True)),
            "model mine:model in training mode returns 1 logits a sample",
        ),
        (
            lambda input_shape, classes: _InTraining(classes, lambda logits: logits.long()),
            "model mine:model in training mode returns int64, not logits",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    tmp_path: Path, mine: ModuleType, factory: Callable[..., Any], message: str
) -> None:
    mine.model = factory  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=message):
        run(tmp_path)
