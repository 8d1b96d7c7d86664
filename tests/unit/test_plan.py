"""Stages and their keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.plan import Plan
from shared.spec import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


def student(name: str = "small", **distillation: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": {"name": "mlp", "hidden": [8]},
        "training": {"epochs": 2},
        "distillation": distillation,
    }


def keys(spec: PipelineSpec) -> dict[str, str]:
    return {stage.title: stage.key for stage in Plan.of(spec).stages}


def test_a_key_is_the_same_on_every_machine(make_spec: MakeSpec) -> None:
    # These keys are in people's stores: a change here makes all of their artifacts be computed again.
    plan = Plan.of(make_spec())

    assert [stage.ref.short_key for stage in plan.trunk] == ["c2607faa", "fabaa30f", "a8e0e7ae"]


def test_where_a_pipeline_runs_and_what_it_is_called_is_no_part_of_a_key(make_spec: MakeSpec) -> None:
    assert keys(make_spec(name="other", device="gpu")) == keys(make_spec())


def test_a_temperature_changes_its_student_and_what_follows_only(make_spec: MakeSpec) -> None:
    before, after = keys(make_spec()), keys(make_spec(students=[student(temperature=2.0)]))

    changed = {title for title in before if before[title] != after[title]}
    assert changed == {"distill small", "evaluate small", "report"}


def test_another_seed_of_the_teacher_changes_all_that_it_touches(make_spec: MakeSpec) -> None:
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2, "seed": 1}}
    before, after = keys(make_spec()), keys(make_spec(teacher=teacher))

    kept = {title for title in before if before[title] == after[title]}
    assert kept == {"prepare digits", "train small/control"}


def test_students_that_differ_in_their_distillation_share_a_control(make_spec: MakeSpec) -> None:
    spec = make_spec(students=[student("one", temperature=1.0), student("two", temperature=2.0)])
    plan = Plan.of(spec)

    assert sum(stage.kind == "train_control" for stage in plan.stages) == 1
    assert plan.report.inputs["one/control"] == plan.report.inputs["two/control"]
    assert plan.report.inputs["one"] != plan.report.inputs["two"]


def test_every_stage_stands_after_its_inputs_and_once(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[student("one"), student("two", alpha=0.5)]))
    seen: set[str] = set()

    for stage in plan.stages:
        assert {ref.key for ref in stage.inputs.values()} <= seen
        assert stage.key not in seen
        seen.add(stage.key)


def test_a_plan_survives_the_broker(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())

    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_failed_stage_blocks_what_needs_it_and_nothing_else(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    titles = {stage.key: stage.title for stage in plan.stages}
    (labels,) = (stage for stage in plan.stages if stage.kind == "soft_labels")

    blocked = {titles[key] for key in plan.blocked_by({labels.key})}

    assert blocked == {"distill small", "evaluate small", "report"}


def test_without_controls_none_are_planned(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(evaluation={"control": False}))

    assert all(stage.kind != "train_control" for stage in plan.stages)


def test_given_weights_are_known_by_their_content(make_spec: MakeSpec, tmp_path: Path) -> None:
    def teacher_key(content: bytes, name: str) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "checkpoint": str(path)})
        return keys(spec)["load teacher"]

    assert teacher_key(b"one", "a") == teacher_key(b"one", "b")
    assert teacher_key(b"one", "a") != teacher_key(b"two", "a")
