"""Own code that would give a key other bytes the next time: seeded where it can be, else refused in words."""

from __future__ import annotations

import random
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import models
from distill_queue.worker.data import load as data
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

CPU = Runtime(torch.device("cpu"), plugins=("mine",))
INPUTS = np.random.default_rng(0).normal(size=(40, 1, 4, 4)).astype(np.float32)
TARGETS = np.arange(40) % 3
UNSEEDED = np.random.default_rng()
LAYERS = nn.Flatten(), nn.Linear(16, 3)


class Own(nn.Module):
    """A linear model; subclasses do something more."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        self.register_buffer("calls", torch.zeros(1))
        self.begin()

    def begin(self) -> None:
        """Make what the model needs."""

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        """Do something to the logits."""
        return logits

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.more(self.linear(inputs.flatten(1)))


class DrawsWeights(Own):
    def begin(self) -> None:
        self.linear.weight.data.normal_(std=float(UNSEEDED.uniform(0.1, 0.2)))


class IsNoisy(Own):
    def more(self, logits: torch.Tensor) -> torch.Tensor:
        return logits + torch.randn_like(logits)


class Counts(Own):
    def more(self, logits: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return logits


class HidesATensor(Own):
    def begin(self) -> None:
        self.hidden = torch.randn(3)

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self.hidden


class HidesWhatItLearns(Own):
    def begin(self) -> None:
        self.mean = torch.zeros(3)

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = logits.detach().mean(0)
        return logits - self.mean


class FlipsCoins(Own):
    def more(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * 2 if self.training and random.random() < 0.001 else logits


class DrawsInTraining(Own):
    def more(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * float(UNSEEDED.uniform()) if self.training else logits


class CoolsDown(Own):
    def begin(self) -> None:
        self.steps = 0

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        return logits / self.steps if self.training else logits


class IsLazyInTraining(Own):
    def begin(self) -> None:
        self.extra = nn.LazyLinear(3)

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        return self.extra(logits) if self.training else logits


class HasAGenerator(Own):
    """Draws noise in training from a generator whose state is a buffer, and so is saved with the weights."""

    def more(self, logits: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
            logits = logits * (1 + (self.calls * 12.9898).sin() / 10)
        return logits


class MakesABuffer(Own):
    def more(self, logits: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.rand(3))
        return logits * self.mask


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))


class DrawsFromAll(Own):
    def begin(self) -> None:
        weights = np.random.normal(size=(3, 16)) * random.uniform(0.1, 0.2)
        self.linear.weight.data = torch.from_numpy(weights).float() + torch.rand(3, 16)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the user's own; what is put into it looks as if it was written there."""

    class Module(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            value.__module__ = self.__name__
            super().__setattr__(name, value)

    module = Module("mine")
    module.data = lambda: {"train": (INPUTS, TARGETS), "test": (INPUTS[:9], TARGETS[:9])}  # type: ignore[attr-defined]
    module.model = lambda **_: Own()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def bytes_of(folder: Path, until: str = "train_teacher", **changes: Any) -> bytes:
    """The weights that a pipeline of own parts gives its teacher, or its student."""
    training = {"epochs": 2, "batch_size": 16, "seed": 5}
    spec = PipelineSpec.model_validate(
        {
            "name": "own",
            "dataset": {"name": "mine:data"},
            "teacher": {"model": {"name": "mine:model"}, "training": training},
            "students": [{"name": "s", "model": {"name": "mlp", "hidden": [4]}, "training": training}],
        }
        | changes
    )
    runner = StageRunner(FolderStore(folder), CPU, lambda *_: None)
    for stage in Plan.of(spec).stages:
        artifact = runner.run(stage)
        if stage.kind == until:
            return artifact.path("model.safetensors").read_bytes()
    raise AssertionError(until)


@pytest.mark.parametrize("model", [Own, Lazy, MakesABuffer, DrawsFromAll, HasAGenerator])
def test_a_key_has_one_artifact(tmp_path: Path, mine: ModuleType, model: Callable[[], nn.Module]) -> None:
    mine.model = lambda **_: model()  # type: ignore[attr-defined]

    first = bytes_of(tmp_path / "1")
    random.random(), np.random.random(), torch.rand(1)
    second = bytes_of(tmp_path / "2")

    assert first == second


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (DrawsWeights, r"gives other weights each time that it is called with one seed \(linear.weight\)"),
        (lambda: nn.Sequential(*LAYERS), r"returns the layers of an earlier call again \(1.weight\)"),
        (IsNoisy, "gives the same samples other logits each time, in eval mode too"),
        (Counts, r"is changed by samples that go through it in eval mode \(calls\)"),
        (HidesATensor, "more to it than its state_dict holds"),
        (HidesWhatItLearns, "more to it than its state_dict holds"),
        (FlipsCoins, "draws random numbers from Python's or NumPy's generator in training: draw from torch's"),
        (DrawsInTraining, "of two equal training steps from one state, .* differs"),
        (CoolsDown, "of two equal training steps from one state, .* differs"),
        (IsLazyInTraining, "makes no use of extra.weight in eval mode"),
    ],
)
def test_a_model_that_differs_each_time_is_refused(
    tmp_path: Path, mine: ModuleType, model: Callable[[], nn.Module], message: str
) -> None:
    mine.model = lambda **_: model()  # type: ignore[attr-defined]

    with pytest.raises(InvalidSpec, match=f"mine:model.* {message}"):
        bytes_of(tmp_path)


def test_a_given_teacher_that_differs_each_time_is_refused(tmp_path: Path, mine: ModuleType) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(IsNoisy().state_dict(), weights)
    mine.model = lambda **_: IsNoisy()  # type: ignore[attr-defined]
    store = FolderStore(tmp_path / "store")
    teacher = {"model": {"name": "mine:model"}, "checkpoint": str(weights)}
    student = {"name": "s", "model": {"name": "mlp", "hidden": [4]}}
    spec = {"name": "own", "dataset": {"name": "mine:data"}, "teacher": teacher, "students": [student]}
    plan = Plan.of(PipelineSpec.model_validate(spec))
    ref = plan.trunk[1].inputs["checkpoint"]
    with store.draft(ref) as draft:
        (draft / "model.safetensors").write_bytes(weights.read_bytes())
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)
    runner = StageRunner(store, CPU, lambda *_: None)
    runner.run(plan.trunk[0])

    with pytest.raises(InvalidSpec, match="mine:model: gives the same samples other logits each time"):
        runner.run(plan.trunk[1])


def test_what_a_call_draws_from_is_put_back(mine: ModuleType) -> None:
    mine.model = lambda **_: DrawsFromAll()  # type: ignore[attr-defined]
    record = DatasetRecord(
        shape=(1, 4, 4), class_names=("a", "b", "c"), train_samples=1, labelled_samples=1, validation_samples=0,
        test_samples=1, mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    untouched = random.random(), np.random.random(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)

    built = [models.build(CustomModelSpec(name="mine:model"), record, CPU, seed) for seed in (0, 0, 1)]

    assert untouched == (random.random(), np.random.random(), torch.rand(1))
    first, again, other = (model.linear.weight for model in built)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def split(inputs: Any) -> dict[str, Any]:
    return {"train": (inputs, TARGETS), "test": (inputs[:9].copy(), TARGETS[:9])}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: split(UNSEEDED.normal(size=(40, 2))), "returns other train inputs and test inputs each time"),
        (lambda: split(INPUTS) | {"test": (INPUTS, UNSEEDED.permutation(TARGETS))}, "returns other test targets each"),
        (
            lambda: split(np.full((40, 2), time.perf_counter_ns())),
            "returns other train inputs and test inputs each time",
        ),
        (lambda: split(np.zeros((40, 2, UNSEEDED.integers(10**5)), np.uint8)), "returns other train inputs"),
        (lambda: split(INPUTS) | {"class_names": [str(UNSEEDED.random()), "b", "c"]}, "returns other class_names"),
    ],
)
def test_data_that_differ_each_time_are_refused(mine: ModuleType, function: Callable[[], Any], message: str) -> None:
    mine.data = function  # type: ignore[attr-defined]

    with pytest.raises(InvalidSpec, match=f"mine:data: .*({message})"):
        data.load(NamedDatasetSpec(name="mine:data"), Reading(CPU))


def test_data_may_be_drawn_from_unseeded_generators(mine: ModuleType) -> None:
    mine.data = lambda: split(  # type: ignore[attr-defined]
        np.random.normal(size=(40, 2)) + random.random() + torch.rand(40, 2).numpy()
    )

    first, again = (data.load(NamedDatasetSpec(name="mine:data"), Reading(CPU)) for _ in range(2))

    assert np.array_equal(first.train_inputs, again.train_inputs)


def test_data_are_not_held_twice(mine: ModuleType) -> None:
    returned: list[weakref.ref[Any]] = []
    held: list[int] = []

    def function() -> dict[str, Any]:
        held.append(sum(each() is not None for each in returned))
        inputs = np.ones((40, 2))
        returned.append(weakref.ref(inputs))
        return split(inputs)

    mine.data = function  # type: ignore[attr-defined]
    arrays = data.load(NamedDatasetSpec(name="mine:data"), Reading(CPU))

    assert held == [0, 0]
    assert returned[1]() is arrays.train_inputs


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (lambda: float(UNSEEDED.uniform()), "gives the same logits another value or gradient each time"),
        (random.random, "draws random numbers from Python's or NumPy's generator"),
        (np.random.random, "draws random numbers from Python's or NumPy's generator"),
        (lambda: torch.rand(()), None),
    ],
)
def test_a_loss_that_differs_each_time_is_refused(
    tmp_path: Path, mine: ModuleType, factor: Callable[[], Any], message: str | None
) -> None:
    mine.loss = lambda student, teacher, targets, temperature: factor() * student.square().mean()  # type: ignore[attr-defined]
    small = {"name": "mlp", "hidden": [4]}
    training = {"epochs": 1, "batch_size": 16}
    parts = {
        "teacher": {"model": small, "training": training},
        "students": [{"name": "s", "model": small, "training": training, "distillation": {"loss": "mine:loss"}}],
    }

    if message is None:
        assert bytes_of(tmp_path / "1", "distill", **parts) == bytes_of(tmp_path / "2", "distill", **parts)
        return
    with pytest.raises(InvalidSpec, match=f"mine:loss: {message}"):
        bytes_of(tmp_path, "distill", **parts)
