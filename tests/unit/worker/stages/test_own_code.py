"""A pipeline of the user's own data, models and losses, with mistakes in them: one error that names them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec, Unavailable
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.worker.conftest import (
    data,
    mean_square,
    run,
    take_as_its_own,
)


def test_parts_of_the_users_own_work_together(tmp_path: Path, mine: ModuleType) -> None:
    run(tmp_path)


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
    runtime = Runtime(torch.device("cpu"), plugins=("mine", "theirs"))

    with pytest.raises(InvalidSpec, match=r"^theirs:model: ValueError: nine \(theirs.py:6\)$"):
        run(tmp_path / "store", runtime=runtime, teacher={"model": {"name": "theirs:model"}, "training": {"epochs": 1}})
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
