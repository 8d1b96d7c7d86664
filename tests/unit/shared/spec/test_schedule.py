"""Temperatures and alphas that change over a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.schedule import ends_of

MakeSpec = Callable[..., PipelineSpec]
BOTH = {"temperature": {"from": 8, "to": 1}, "alpha": {"from": 0.9, "to": 0.3}}


def student(**distillation: Any) -> dict[str, Any]:
    return {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "distillation": distillation}


def test_a_schedule_stands_in_keys_and_words_and_a_number_stays_as_it_is() -> None:
    changing, fixed = DistillationSpec.model_validate(BOTH), DistillationSpec(temperature=2, alpha=0.5)

    assert ingredients(changing) == BOTH
    assert (changing.words, changing.changes) == ("T=8→1 alpha=0.9→0.3", True)
    assert (ends_of(changing.temperature), ends_of(2.0)) == ((8.0, 1.0), (2.0, 2.0))
    assert ingredients(fixed) == {"temperature": 2.0, "alpha": 0.5}
    assert fixed.model_dump_json(include={"temperature", "alpha"}) == '{"temperature":2.0,"alpha":0.5}'
    assert (fixed.words, fixed.changes) == ("T=2 alpha=0.5", False)


def test_schedules_may_be_points_of_a_grid(make_spec: MakeSpec) -> None:
    grid = {"grid": [4, {"from": 8, "to": 1}]}
    plan = Plan.of(make_spec(students=[student(temperature=grid)], dataset={"name": "digits", "validation": 0.2}))

    titles = [stage.title for stage in plan.stages if stage.kind == "distill"]

    assert titles == ["distill small (temperature 4)", "distill small (temperature 8→1)"]
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("temperature: {from: 8}", "temperature.to: required key is missing"),
        ("temperature: {from: 8, too: 1}", "temperature.too: unknown key; did you mean 'to'? (known: from, to)"),
        ("temperature: {from: 8, to: 0}", "temperature: both ends must be above 0, and 10,000 at the most"),
        ("temperature: {from: 4, to: 4}", "temperature: both ends are the same: write 4"),
        ("alpha: {from: 1.5, to: 0}", "alpha: both ends must be from 0 to 1"),
        ("alpha: {from: high, to: 0}", 'alpha.from: input should be a valid number, not "high"'),
        ("temperature: 0", "temperature: input should be greater than 0, not 0"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, given: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: annealed\n"
        "teacher: {model: {name: cnn}}\n"
        "students:\n"
        f"  - {{name: small, model: {{name: cnn}}, distillation: {{{given}}}}}\n"
    )

    with pytest.raises(InvalidSpec) as refused:
        PipelineSpec.load(path)

    assert str(refused.value) == f"{path}:4: students[0].distillation.{message}"
