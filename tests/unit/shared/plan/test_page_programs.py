"""The stage that makes the teacher's program for the report's page."""

from __future__ import annotations

from typing import Any

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.conftest import small_spec


def plan(*exports: dict[str, Any] | None, **changes: Any) -> Plan:
    """A pipeline with a student for each export."""
    students = [
        {"name": f"s{number}", "model": {"name": "mlp", "hidden": [8 + number]}}
        | ({"export": export} if export else {})
        for number, export in enumerate(exports)
    ]
    return Plan.of(PipelineSpec.model_validate(small_spec(students=students, **changes)))


def programs(found: Plan) -> list[Stage]:
    return [stage for stage in found.stages if stage.kind == "page_program"]


def test_one_program_is_made_of_the_teacher_however_many_students_are_exported() -> None:
    found = plan({"formats": ["onnx"]}, None, {"formats": ["onnx", "onnx-int8"]})

    (program,) = programs(found)

    assert program.inputs["model"] == found.trunk[1].ref
    assert found.format == 6


def test_of_several_teachers_it_is_the_average() -> None:
    teachers = [{"model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": epochs}} for epochs in (1, 2)]
    spec = {name: value for name, value in small_spec(teachers=teachers).items() if name != "teacher"}
    spec["students"][0]["export"] = {"formats": ["onnx"]}

    found = Plan.of(PipelineSpec.model_validate(spec))

    (program,) = programs(found)
    assert program.inputs["model"].kind == "join_teachers"


def test_without_an_export_that_the_page_computes_there_is_none_and_no_other_key_changes() -> None:
    without, exported = plan(None), plan({"formats": ["onnx"]})

    assert programs(without) == programs(plan({"formats": ["onnx-int8"]})) == []
    kept = {stage.key for stage in without.stages} - {without.report.key}
    assert kept < {stage.key for stage in exported.stages}
