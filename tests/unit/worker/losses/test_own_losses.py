"""Losses of the user's own: their options, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.worker.conftest import (
    CPU,
    mean_square,
    run,
    take_as_its_own,
)


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
