"""The user's own data, models and losses, with mistakes in them: one error that says what is wrong, and where."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import WorkerShutdown
from PIL import Image
from torch import nn
from torch.nn import functional

from distill_queue.shared.errors import InvalidSpec, Unavailable
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import models
from distill_queue.worker.data.load import load as load_data
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

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
    runner = StageRunner(FolderStore(folder), CPU, lambda *_: None)
    for stage in Plan.of(spec).stages:
        runner.run(stage)
        if stage.kind == until:
            return


def test_parts_of_the_users_own_work_together(tmp_path: Path, mine: ModuleType) -> None:
    run(tmp_path)


def test_data_that_are_refused_leave_no_artifact(tmp_path: Path, mine: ModuleType) -> None:
    mine.data = partial(data, class_names=("a", "a", "b"))  # type: ignore[attr-defined]

    with pytest.raises(InvalidSpec, match="two classes have one name"):
        run(tmp_path)

    assert not list(tmp_path.rglob("manifest.json"))


def test_a_pipeline_learns_from_data_some_of_which_have_no_label(tmp_path: Path, mine: ModuleType) -> None:
    targets = np.where(np.arange(40) % 4 == 3, -1, TARGETS)
    mine.data = partial(data, train=(INPUTS, targets))  # type: ignore[attr-defined]
    run(tmp_path, dataset={"name": "mine:data", "validation": 0.2})


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


def test_a_mistake_that_shows_in_the_evaluation_only_is_the_users_too(
    tmp_path: Path, mine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(
        "from torch import nn\n\nclass Model(nn.Linear):\n    def forward(self, x):\n"
        "        if not self.training and len(x) == 9:\n            raise ValueError('nine')\n"
        "        return super().forward(x.flatten(1))\n\n"
        "def model(input_shape, classes):\n    return Model(16, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "CPU", Runtime(torch.device("cpu"), plugins=("mine", "theirs")))

    with pytest.raises(InvalidSpec, match=r"^theirs:model: ValueError: nine \(theirs.py:6\)$"):
        run(tmp_path / "store", teacher={"model": {"name": "theirs:model"}, "training": {"epochs": 1}})
    sys.modules.pop("theirs")


def test_a_mistake_that_shows_where_another_worker_helps_is_the_users_too(
    tmp_path: Path, mine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helped.py").write_text(
        "from torch import nn\n\nbroken = False\n\nclass Model(nn.Linear):\n    def forward(self, x):\n"
        "        if broken:\n            raise OSError('gone')\n        return super().forward(x.flatten(1))\n\n"
        "def model(input_shape, classes):\n    return Model(16, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    take_as_its_own(mine)
    model, training = {"name": "helped:model"}, {"epochs": 1}
    student = {"name": "s", "model": {"name": "mlp", "hidden": [4]}}
    spec = {"name": "own", "dataset": {"name": "mine:data"}, "students": [student]}
    plan = Plan.of(PipelineSpec.model_validate(spec | {"teacher": {"model": model, "training": training}}))
    runtime = Runtime(torch.device("cpu"), plugins=("mine", "helped"))
    runner = StageRunner(FolderStore(tmp_path / "store"), runtime, lambda *_: None)
    *before, labels = plan.trunk
    for stage in before:
        runner.run(stage)

    monkeypatch.setattr(sys.modules["helped"], "broken", True)

    with pytest.raises(InvalidSpec, match=r"^helped:model: OSError: gone \(helped.py:8\)$"):
        runner.help(labels)
    sys.modules.pop("helped")


def test_a_forward_that_fails_is_named_with_the_users_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: ModuleType
) -> None:
    (tmp_path / "fails.py").write_text(
        "import sys\nfrom torch import nn\n\nclass Model(nn.Linear):\n    def forward(self, x):\n"
        "        return sys.exit(1) if self.in_features == 1 else super().forward(x)\n\n"
        "def model(input_shape, classes, width):\n    return Model(width, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    record = load_data(DatasetSpec(name="digits"), CPU).save(tmp_path)
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
    record = load_data(DatasetSpec(name="digits"), CPU).save(tmp_path).model_copy(update={"shape": (1, 4, 4)})
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
    record = load_data(DatasetSpec(name="digits"), CPU).save(tmp_path)

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
    mine.model = lambda **_: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 3))  # type: ignore[attr-defined]
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
        (ValueError("x" * 9000), "xxx … (more of it is in the log) (test_own_code.py:"),
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
    plan, runner = Plan.of(spec), StageRunner(FolderStore(tmp_path), CPU, lambda *_: None)
    for stage in plan.trunk:
        runner.run(stage)
    bundle = next(branch[0] for branch in plan.branches if branch[0][0].kind == "distill")
    if seeds == 1:
        runner.train(bundle, bundle)
    else:
        with pytest.raises(InvalidSpec, match="mine:loss: RuntimeError"):
            runner.train(bundle, bundle)


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


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a real package `theirs`, whose module `data` has a callable `load` with a body that is given."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(body: str) -> None:
        (folder / "data.py").write_text("def load(path=None):\n    " + body.replace("\n", "\n    "))

    yield write
    for name in ("theirs", "theirs.data"):
        sys.modules.pop(name, None)


def call_theirs(*given: Any) -> None:
    load = plugins.load("theirs.data:load", ("theirs",))
    with plugins.called("theirs.data:load"):
        load(*given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image", r"UnidentifiedImageError: cannot identify image file '.*/cat\.png' \(theirs/data\.py:3\)"),
        (None, r"OSError: image file is truncated \(\d+ bytes not processed\) in .*/cat\.jpg \(theirs/data\.py:3\)"),
    ],
)
def test_an_image_that_cannot_be_read_is_named_with_the_users_own_line(
    tmp_path: Path, theirs: Callable[[str], None], content: bytes | None, said: str
) -> None:
    path = tmp_path / ("cat.jpg" if content is None else "cat.png")
    if content is None:
        Image.fromarray(RANDOM.integers(0, 255, (99, 99, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()[:-2000]
    path.write_bytes(content)
    theirs("from PIL import Image\nwith Image.open(path) as image: return image.convert('RGB')")

    with pytest.raises(InvalidSpec, match=f"^theirs.data:load: {said}"):
        call_theirs(path)


def test_a_missing_file_is_named_with_the_users_own_line_and_not_numpys(theirs: Callable[[str], None]) -> None:
    theirs("import numpy\nreturn numpy.load('absent.npy')")

    with pytest.raises(InvalidSpec, match=r"No such file or directory: 'absent.npy' \(theirs/data.py:3\)"):
        call_theirs()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\nsys.exit(3)", r"SystemExit: 3: code that a worker calls must not end its process"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--no'])", "SystemExit: 2: code that a worker calls"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("class Own(BaseException): pass\nraise Own('no')", "Own: no"),
        ("raise DeprecationWarning('old')", "DeprecationWarning: old"),
        ("import sqlite3\nsqlite3.connect(':memory:').execute('selekt')", "OperationalError: near"),
        ("import zipfile, io\nzipfile.ZipFile(io.BytesIO(b'no'))", "BadZipFile: File is not a zip file"),
    ],
)
def test_whatever_the_users_code_raises_is_a_mistake_of_its_line(
    theirs: Callable[[str], None], body: str, said: str
) -> None:
    theirs(body)

    with pytest.raises(InvalidSpec, match=rf"^theirs.data:load: {said}.* \(theirs/data.py:[23]\)$"):
        call_theirs()


def test_a_module_that_ends_the_process_when_it_is_imported_is_refused(
    tmp_path: Path, theirs: Callable[[str], None]
) -> None:
    (tmp_path / "theirs" / "data.py").write_text("import sys\n\nsys.exit('no data here')\n")

    with pytest.raises(InvalidSpec, match=r"theirs.data:load: SystemExit: no data here.*\(theirs/data.py:3\)"):
        call_theirs()


def test_an_interrupt_is_the_users_where_no_terminal_can_send_one(theirs: Callable[[str], None]) -> None:
    theirs("raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        call_theirs()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(InvalidSpec, match="KeyboardInterrupt: code that a worker calls must not end its process"):
            call_theirs()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_end_that_celery_asks_for_is_not_the_users(theirs: Callable[[str], None]) -> None:
    theirs("from celery.exceptions import WorkerShutdown\nraise WorkerShutdown(0)")

    with pytest.raises(WorkerShutdown):
        call_theirs()


def test_a_time_limit_that_ends_the_users_code_is_no_mistake_of_it(theirs: Callable[[str], None]) -> None:
    theirs("from billiard.exceptions import SoftTimeLimitExceeded\nraise SoftTimeLimitExceeded")

    with pytest.raises(SoftTimeLimitExceeded):
        call_theirs()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ECONNRESET])
def test_an_outage_in_the_users_code_is_tried_again(theirs: Callable[[str], None], number: int) -> None:
    theirs(f"raise OSError({number}, 'for now', 'images.zip')")

    with pytest.raises(Unavailable, match=r"theirs.data:load: .*'images.zip' \(theirs/data.py:2\)"):
        call_theirs()


def test_a_line_that_cannot_be_parsed_is_named(tmp_path: Path, theirs: Callable[[str], None]) -> None:
    (tmp_path / "theirs" / "data.py").write_text("import os\nx = = 1\n")

    with pytest.raises(InvalidSpec, match=r"SyntaxError: invalid syntax .*\(data.py:2\)$"):
        call_theirs()
