"""The user's own data, models and losses, with mistakes in them: one error that says what is wrong, and where."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shared.errors import InvalidSpec, Unavailable
from shared.plan import Plan
from shared.spec import PipelineSpec
from shared.store import ArtifactStore
from worker import plugins
from worker.runtime import Runtime
from worker.stages import Workshop

CPU = Runtime(torch.device("cpu"), plugins=("mine",))
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(40, 1, 4, 4)).astype(np.float32)
TOKENS = RANDOM.integers(0, 9, (40, 6)).astype(np.int16)
TARGETS = np.arange(40) % 3


def data(**changes: Any) -> dict[str, Any]:
    return {"train": (INPUTS, TARGETS), "test": (INPUTS[:9], TARGETS[:9])} | changes


def mean_square(student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, *, temperature: Any) -> Any:
    assert targets.dtype == torch.int64
    return temperature * (student - teacher).square().mean()


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the user's own that is right."""
    module = ModuleType("mine")
    module.data = data  # type: ignore[attr-defined]
    module.model = lambda input_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(16, classes))  # type: ignore[attr-defined]
    module.loss = mean_square  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def take_as_its_own(module: ModuleType) -> None:
    """Have the module's parts look as if they were written in it."""
    for part in filter(callable, vars(module).values()):
        getattr(part, "func", part).__module__ = module.__name__


def run(folder: Path, until: str = "report", **changes: Any) -> None:
    """Do all stages of a pipeline of the user's own parts, one after the other."""
    take_as_its_own(sys.modules["mine"])
    training = {"epochs": 1, "batch_size": 16}
    own = {"name": "mine:model"}
    spec = PipelineSpec.model_validate(
        {
            "name": "own",
            "dataset": {"name": "mine:data"},
            "teacher": {"model": own, "training": training},
            "students": [{"name": "s", "model": own, "training": training, "distillation": {"loss": "mine:loss"}}],
        }
        | changes
    )
    workshop = Workshop(ArtifactStore(folder), CPU, lambda *_: None)
    for stage in Plan.of(spec).stages:
        workshop.run(stage)
        if stage.kind == until:
            return


def test_parts_of_the_users_own_work_together(tmp_path: Path, mine: ModuleType) -> None:
    run(tmp_path)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "must return a dictionary"),
        (data(train=(INPUTS, TARGETS.astype(str))), r"mine:data: "),
        (data(train=(INPUTS, TARGETS + 0.6)), "train targets must be whole numbers"),
        (data(train=(INPUTS, np.eye(3)[TARGETS])), "train targets must be whole numbers"),
        (data(train=(INPUTS[:0], TARGETS[:0])), "train targets must be whole numbers"),
        (data(train=(INPUTS[:-1], TARGETS)), "train has 39 inputs and 40 targets"),
        (data(train=(INPUTS, TARGETS - 1)), "train targets must be whole numbers"),
        (data(train=(INPUTS, TARGETS + 5), class_names=("a", "b")), "a train target is outside of the 2 classes"),
        (data(train=(INPUTS, TARGETS * 10**9)), "a target is 2,000,000,000, with 40 samples"),
        (data(train=(INPUTS, [None] * 40)), "train targets must be whole numbers"),
        (data(train=(INPUTS.astype(">f4"), TARGETS)), "train inputs must be numbers"),
        (data(train=(INPUTS[:, :0], TARGETS)), "train inputs must be numbers"),
        (data(train=(INPUTS * np.float32(1e30), TARGETS)), "not finite"),
        (data(train=(np.full_like(INPUTS, np.nan), TARGETS)), "a train input is not finite"),
        (data(train=(np.array(["a"] * 40), TARGETS)), "train inputs must be numbers"),
        (data(train=(np.arange(40.0), TARGETS)), "train inputs must be numbers"),
        (data(test=(INPUTS[:9, :, :2], TARGETS[:9])), "a training sample and a test sample differ"),
        (data(test=(INPUTS[:9].astype(np.float64), TARGETS[:9])), "a training sample and a test sample differ"),
        (data(class_names=("a", "a", "b")), "two classes have one name"),
        (data(class_names=(0, 1, 2)), "class_names must be two or more texts"),
        (data(train=(INPUTS,)), "mine:data: "),
    ],
)
def test_data_that_are_no_classification_are_refused(
    tmp_path: Path, mine: ModuleType, returned: Any, message: str
) -> None:
    mine.data = lambda: returned  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=message):
        run(tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def test_tensors_are_as_good_as_arrays(tmp_path: Path, mine: ModuleType) -> None:
    tensors = {"train": (torch.from_numpy(INPUTS), torch.from_numpy(TARGETS))}
    mine.data = partial(data, **tensors)  # type: ignore[attr-defined]
    run(tmp_path, until="train_teacher")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("column"), InvalidSpec),
        (FileNotFoundError("no such file: words.txt"), InvalidSpec),
        (ConnectionError("the server is away"), Unavailable),
    ],
)
def test_an_error_in_the_users_code_names_it(
    tmp_path: Path, mine: ModuleType, error: Exception, kind: type[Exception]
) -> None:
    def broken() -> None:
        raise error

    mine.data = broken  # type: ignore[attr-defined]
    with pytest.raises(kind, match="mine:data: "):
        run(tmp_path)


class _Mistake(Exception):
    """The user's own kind of error."""


_Mistake.__module__ = "mine"


@pytest.mark.parametrize("error", [_Mistake("no"), NotImplementedError("later")])
def test_any_kind_of_error_in_the_users_code_is_a_mistake(tmp_path: Path, mine: ModuleType, error: Exception) -> None:
    def broken() -> None:
        raise error

    mine.data = broken  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=f"mine:data: {type(error).__name__}"):
        run(tmp_path)


class _OnlyTwo(nn.Linear):
    """A model that takes batches of up to four samples, as its trial has, and no larger one."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 4:
            raise ValueError("too many")
        return super().forward(inputs.flatten(1))


def test_a_mistake_that_shows_in_training_only_is_the_users_too(tmp_path: Path, mine: ModuleType) -> None:
    mine.model = lambda input_shape, classes: _OnlyTwo(16, classes)  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=r"mine:model: ValueError: too many \(test_own_code.py"):
        run(tmp_path)


class _Pair(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> Any:
        logits = super().forward(inputs.flatten(1))
        return logits, logits


class _Lookup(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return {}["missing"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda classes: nn.Linear(16, classes), "mine:model: TypeError.*input_shape"),
        (lambda input_shape, classes: 1 / 0, "mine:model: ZeroDivisionError"),
        (lambda input_shape, classes: "a model", "must return a torch.nn.Module"),
        (lambda input_shape, classes: _Pair(16, classes), "returns tuple, not logits"),
        (lambda input_shape, classes: _Lookup(16, classes), "does not take samples"),
        (lambda input_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(16, 7)), "returns .* the data have 3"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(
    tmp_path: Path, mine: ModuleType, factory: Callable[..., Any], message: str
) -> None:
    mine.model = factory  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=message):
        run(tmp_path)


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


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_unused_and_tied_weights_are_taken(tmp_path: Path, mine: ModuleType, optimizer: str) -> None:
    built: list[_Tied] = []

    def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        built.append(_Tied(classes))
        return built[-1]

    mine.model = model  # type: ignore[attr-defined]
    training = {"epochs": 1, "batch_size": 16, "optimizer": optimizer, "weight_decay": 0.1}
    run(tmp_path, until="soft_labels", teacher={"model": {"name": "mine:model"}, "training": training})
    trained, read_again = built
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


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda student, teacher, targets: student.sum(), "mine:loss: TypeError.*temperature"),
        (lambda student, teacher, targets, temperature: student.sum(1), "a tensor without dimensions"),
        (lambda student, teacher, targets, temperature: 0.5, "a tensor without dimensions"),
        (lambda student, teacher, targets, temperature: student.detach().sum(), "no gradient"),
    ],
)
def test_a_loss_that_cannot_be_used_is_refused(
    tmp_path: Path, mine: ModuleType, loss: Callable[..., Any], message: str
) -> None:
    mine.loss = loss  # type: ignore[attr-defined]
    with pytest.raises(InvalidSpec, match=message):
        run(tmp_path)


def test_a_loss_takes_options(tmp_path: Path, mine: ModuleType) -> None:
    given: list[float] = []

    def loss(*logits: torch.Tensor, temperature: Any, weight: float) -> torch.Tensor:
        given.append(weight)
        return weight * mean_square(*logits, temperature=temperature)

    mine.loss = loss  # type: ignore[attr-defined]
    student = {"name": "s", "model": {"name": "mine:model"}, "training": {"epochs": 1}}
    run(tmp_path, students=[student | {"distillation": {"loss": "mine:loss", "options": {"weight": 0.25}}}])
    assert set(given) == {0.25}


def test_data_models_and_losses_take_lists_of_their_own(tmp_path: Path, mine: ModuleType) -> None:
    given: list[Any] = []

    def taken(widths: list[Any]) -> None:
        given.append(list(widths))
        widths.append("changed")

    def model(input_shape: tuple[int, ...], classes: int, widths: list[Any]) -> nn.Module:
        taken(widths)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))

    def loss(*logits: torch.Tensor, temperature: Any, widths: list[Any]) -> torch.Tensor:
        given.append(widths)
        return mean_square(*logits, temperature=temperature)

    mine.data = lambda widths: (taken(widths), data())[1]  # type: ignore[attr-defined]
    mine.model, mine.loss = model, loss  # type: ignore[attr-defined]
    options = {"options": {"widths": [1, ["a", None]]}}
    own = {"name": "mine:model"} | options
    training = {"epochs": 1}
    student = {"name": "s", "model": own, "training": training, "distillation": {"loss": "mine:loss"} | options}

    run(
        tmp_path,
        dataset={"name": "mine:data"} | options,
        teacher={"model": own, "training": training},
        students=[student],
    )

    assert all(each == [1, ["a", None]] for each in given)


@pytest.mark.parametrize("change", [{"shift": 1}, {"mixup": 0.5}])
def test_tokens_have_no_views(tmp_path: Path, mine: ModuleType, change: dict[str, Any]) -> None:
    mine.data = lambda: {"train": (TOKENS, TARGETS), "test": (TOKENS, TARGETS)}  # type: ignore[attr-defined]
    layers = nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 3)
    mine.model = lambda **_: nn.Sequential(*layers)  # type: ignore[attr-defined]
    training = {"epochs": 1, "augmentation": change}
    with pytest.raises(InvalidSpec, match="the samples are tokens"):
        run(tmp_path, teacher={"model": {"name": "mine:model"}, "training": training})


def test_measurements_that_are_no_images_are_not_shifted(tmp_path: Path, mine: ModuleType) -> None:
    vectors = INPUTS.reshape(40, 16)
    mine.data = lambda: {"train": (vectors, TARGETS), "test": (vectors, TARGETS)}  # type: ignore[attr-defined]
    training = {"epochs": 1, "augmentation": {"flip": True}}
    with pytest.raises(InvalidSpec, match="are no images"):
        run(tmp_path, teacher={"model": {"name": "mine:model"}, "training": training})


@pytest.mark.parametrize("error", ["NameError", "RuntimeError", "SyntaxError"])
def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "broken.py").write_text("1 +" if error == "SyntaxError" else f"raise {error}('here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidSpec, match=f"broken:data: {error}"):
        plugins.load("broken:data", ("broken",))
    monkeypatch.delitem(sys.modules, "broken", raising=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("no such column"), "mine:data: KeyError: 'no such column' (test_own_code.py:"),
        (RuntimeError(), "mine:data: RuntimeError (test_own_code.py:"),
        (ValueError("x" * 9000), "xxx … (all of it is in the log) (test_own_code.py:"),
    ],
)
def test_a_mistake_is_told_in_a_few_words_and_logged_in_all(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidSpec) as raised, plugins.called("mine:data"):
        raise error

    assert said in str(raised.value)
    assert len(str(raised.value)) < 600
    assert str(error) in caplog.text


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_loss_that_cannot_be_stacked_is_refused_where_it_would_be(
    tmp_path: Path, mine: ModuleType, seeds: int
) -> None:
    mine.loss = lambda student, teacher, targets, temperature: student.sum() * student.sum().item()  # type: ignore[attr-defined]
    take_as_its_own(mine)
    small = {"name": "mlp", "hidden": [4]}
    students = [
        {"name": "s", "model": small, "training": {"epochs": 1}, "seeds": seeds, "distillation": {"loss": "mine:loss"}}
    ]
    spec = PipelineSpec.model_validate(
        {"name": "own", "dataset": {"name": "mine:data"}, "teacher": {"model": small}, "students": students}
    )
    plan, workshop = Plan.of(spec), Workshop(ArtifactStore(tmp_path), CPU, lambda *_: None)
    for stage in plan.trunk:
        workshop.run(stage)
    bundle = next(branch[0] for branch in plan.branches if branch[0][0].kind == "distill")
    if seeds == 1:
        workshop.train(bundle, bundle)
    else:
        with pytest.raises(InvalidSpec, match="mine:loss: RuntimeError"):
            workshop.train(bundle, bundle)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("os:system", "does not import 'os'"),
        ("mine_too:data", "does not import 'mine_too'"),
        (".mine:data", "does not import ''"),
        ("..mine:data", "does not import ''"),
        ("mine.os:system", "mine.os"),
        ("mine..os:system", "mine"),
        ("mine:os.system", "has no attribute"),
        ("mine:os", "not callable"),
        ("mine:system", "comes from 'posix'"),
        ("mine:run", "comes from 'subprocess'"),
        ("mine:load", "comes from 'torch'"),
        ("mine:run_too", "comes from 'subprocess'"),
        ("mine:__class__", "comes from 'builtins'"),
        ("mine:__getattribute__", "comes from"),
        ("mine:", "mine:"),
    ],
)
def test_what_an_allowed_package_has_imported_is_not_to_be_called(
    mine: ModuleType, reference: str, message: str
) -> None:
    imported = {"os": os, "system": os.system, "run": subprocess.run, "load": torch.load}
    vars(mine).update(imported, run_too=partial(subprocess.run, shell=True))

    with pytest.raises(InvalidSpec, match=message):
        plugins.load(reference, ("mine",))
