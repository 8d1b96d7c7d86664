"""Several teachers: one model that averages them, and a stage for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.recipes import JoinTeachers
from distill_queue.shared.results.records import EnsembleRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import Ensemble
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]


def teacher(width: int, **changes: Any) -> dict[str, Any]:
    return {"model": {"name": "mlp", "hidden": [width]}, "training": {"epochs": 2}} | changes


def several(make_spec: MakeSpec, **changes: Any) -> PipelineSpec:
    return make_spec(**{"teacher": None, "teachers": [teacher(32), teacher(16, weight=3.0)]} | changes)


class Constant(nn.Module):
    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(inputs), -1)


def test_logits_are_averaged_by_weight() -> None:
    joined = Ensemble([Constant([4.0, 0.0]), Constant([0.0, 8.0])], [3.0, 1.0], probabilities=False)
    torch.testing.assert_close(joined(torch.zeros(2, 1)), torch.tensor([[3.0, 2.0]] * 2))


def test_probabilities_are_averaged_by_weight() -> None:
    logits = [[4.0, 0.0, 1.0], [0.0, 8.0, -90.0]]
    joined = Ensemble([Constant(each) for each in logits], [3.0, 1.0], probabilities=True)
    probabilities = torch.tensor(logits).softmax(1)
    expected = 0.75 * probabilities[0] + 0.25 * probabilities[1]
    torch.testing.assert_close(joined(torch.zeros(1, 1)).softmax(1)[0], expected)


def test_probabilities_that_are_nothing_give_no_infinity() -> None:
    joined = Ensemble([Constant([500.0, -500.0])] * 2, [1.0, 1.0], probabilities=True)
    assert joined(torch.zeros(1, 1)).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None}, "either 'teacher' or 'teachers'"),
        ({"teachers": [teacher(8), teacher(9)]}, "either 'teacher' or 'teachers'"),
        ({"teacher": None, "teachers": [teacher(8)]}, "a single teacher is given as 'teacher'"),
        ({"teacher": None, "teachers": [teacher(8), teacher(8, weight=2.0)]}, "two teachers are the same"),
        (
            {"teacher": None, "teachers": [teacher(8, seeds=2), teacher(8, training={"epochs": 2, "seed": 1})]},
            "two teachers are the same",
        ),
        ({"teacher": teacher(8, seeds=11)}, "less than or equal to 10"),
        (
            {"teacher": {"model": {"name": "cnn"}, "seeds": 2, "checkpoint": "file.safetensors"}},
            "with a checkpoint has no seeds",
        ),
        ({"average": "logits"}, "an average needs several teachers"),
        ({"teacher": None, "teachers": [teacher(8), teacher(9, weight=0.0)]}, "greater than 0"),
    ],
)
def test_teachers_that_cannot_be_joined_are_refused(make_spec: MakeSpec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(**changes)


def test_a_teacher_with_seeds_is_several_teachers_written_in_short(make_spec: MakeSpec) -> None:
    short = make_spec(teacher=teacher(8, seeds=3, training={"epochs": 2, "seed": 5}), average="logits")
    written = [teacher(8, training={"epochs": 2, "seed": seed}) for seed in (5, 6, 7)]

    plan = Plan.of(short)

    assert plan == Plan.of(make_spec(teacher=None, teachers=written, average="logits"))
    assert PlannedSpec.of(plan).data["teachers"] == written
    weighted = make_spec(teacher=None, teachers=[teacher(8, seeds=2, weight=3.0), teacher(9)])
    assert Plan.of(weighted).trunk[1].recipe.weights == (3.0, 3.0, 1.0)  # type: ignore[union-attr]


def test_each_teacher_is_a_stage_of_its_own(make_spec: MakeSpec) -> None:
    single, both = Plan.of(make_spec()), Plan.of(several(make_spec))
    titles = [stage.title for stage in both.stages]

    assert titles[:5] == ["prepare digits", "train teacher 1", "train teacher 2", "join teachers", "soft labels"]
    assert both.teachers[0].key == single.trunk[1].key, "found, where it was alone before"
    failed = {titles.index(title) for title in ("train teacher 1",)}
    blocked = both.blocked_by({both.stages[index].key for index in failed})
    assert {stage.title for stage in both.stages if stage.key in blocked} == set(titles) - {
        "prepare digits", "train teacher 1", "train teacher 2",
    }  # fmt: skip


def test_students_learn_from_the_average(make_spec: MakeSpec, tmp_path: Path) -> None:
    store, runtime = FolderStore(tmp_path), Runtime(torch.device("cpu"))
    runner = StageRunner(store, runtime, lambda *_: None)
    spec = several(make_spec, average="logits", soft_labels={"dtype": "float32"})
    plan = Plan.of(spec)
    artifacts = {stage.title: runner.run(stage) for stage in plan.stages}

    joined, report = artifacts["join teachers"].record, artifacts["report"].record
    assert isinstance(joined, EnsembleRecord)
    assert isinstance(report, ReportRecord)
    assert (joined.teachers, len(report.teachers)) == (2, 2)
    assert joined.parameters == sum(each.parameters for each in report.teachers) == report.teacher.parameters
    assert isinstance(plan.trunk[1].recipe, JoinTeachers)

    alone = [
        Plan.of(make_spec(teacher=teacher(width), soft_labels={"dtype": "float32"})).trunk[2] for width in (32, 16)
    ]
    first, second = (SoftLabels.open(runner.run(stage).folder)[:] for stage in alone)
    together = SoftLabels.open(artifacts["soft labels"].folder)[:]
    torch.testing.assert_close(
        torch.from_numpy(together.copy()), torch.from_numpy(0.25 * first + 0.75 * second), rtol=1e-5, atol=1e-5
    )
