"""Students that are exported: which stages make the files, when, and what their keys depend on."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Export
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec

MLP = {"name": "mlp", "hidden": [8]}


def _plan(**student: Any) -> Plan:
    values = {
        "name": "exported",
        "dataset": {"name": "digits", "validation": 0.1},
        "teacher": {"model": MLP},
        "students": [{"name": "small", "model": MLP} | student],
    }
    return Plan.of(PipelineSpec.of(values))


def _exports(plan: Plan) -> list[Stage]:
    return [stage for stage in plan.stages if isinstance(stage.recipe, Export)]


def test_each_format_of_a_student_has_a_stage_of_its_own_after_its_evaluation() -> None:
    plan = _plan(export={"formats": ["onnx", "onnx-int8"]})

    branch = next(branch for branch in plan.branches if branch[0][0].title == "distill small")

    titles = [[stage.title for stage in bundle] for bundle in branch]
    assert titles == [["distill small"], ["evaluate small"], ["export small to onnx", "export small to onnx-int8"]]


def test_the_first_seed_of_a_student_is_exported() -> None:
    plan = _plan(seeds=3, training={"seed": 5}, export={})

    (export,) = _exports(plan)

    exported = next(stage for stage in plan.stages if stage.ref == export.inputs["model"])
    assert export.title == "export small, seed 5 to onnx"
    assert exported.title == "distill small, seed 5"


def test_a_chosen_student_is_exported_after_the_choice() -> None:
    plan = _plan(distillation={"temperature": {"grid": [1, 4]}}, seeds=2, export={})

    (export,) = _exports(plan)

    assert export.inputs["model"].kind == "choose"
    assert isinstance(export.recipe, Export)
    assert export.recipe.seed == 0
    assert (export,) in plan.tail


def test_the_report_waits_for_the_exports_and_has_them_among_its_inputs() -> None:
    plan = _plan(export={"formats": ["onnx", "onnx-int8"]})

    inputs = plan.report.inputs

    assert [inputs[f"small/export/{name}"] for name in ("onnx", "onnx-int8")] == [each.ref for each in _exports(plan)]


def test_an_export_changes_no_key_but_that_of_the_report() -> None:
    plain, exported = _plan(), _plan(export={})

    same = {stage.key for stage in plain.stages} & {stage.key for stage in exported.stages}

    assert len(same) == len(plain.stages) - 1
    assert plain.report.key != exported.report.key


def test_the_tolerance_concerns_files_of_integers_only() -> None:
    strict, lenient = (
        _exports(_plan(export={"formats": ["onnx", "onnx-int8"], "tolerance": points})) for points in (0.1, 2)
    )

    assert strict[0].key == lenient[0].key
    assert strict[1].key != lenient[1].key


def test_two_students_that_are_one_model_are_exported_once() -> None:
    twins = [{"name": name, "model": MLP, "export": {}} for name in ("one", "other")]
    spec = {"name": "twins", "dataset": {"name": "digits"}, "teacher": {"model": MLP}, "students": twins}

    plan = Plan.of(PipelineSpec.of(spec))

    assert len(_exports(plan)) == 1
    assert plan.report.inputs["one/export/onnx"] == plan.report.inputs["other/export/onnx"]


@pytest.mark.parametrize(
    ("export", "problem"),
    [
        ({"formats": ["onx"]}, "unknown format 'onx'; did you mean 'onnx'?"),
        ({"formats": []}, "students[0].export.formats"),
        ({"formats": ["onnx", "onnx"]}, "names 'onnx' twice"),
        ({"tolerance": -1}, "students[0].export.tolerance"),
        ({"format": "onnx"}, "unknown key; did you mean 'formats'?"),
    ],
)
def test_an_export_that_cannot_be_is_refused(export: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        _plan(export=export)

    assert problem in str(error.value)


def test_what_is_exported_is_no_matter_of_a_grid() -> None:
    with pytest.raises(InvalidSpec, match="'export' cannot be a grid"):
        _plan(distillation={"temperature": {"grid": [1, 4]}}, export={"tolerance": {"grid": [1, 2]}})
