"""An editor accepts what the command does, grids among it, and marks what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from distill_queue.scheduler.client.schema import schema_of_specs
from distill_queue.scheduler.tune.tuned_spec import TunedSpec
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
GRIDS = [
    {"distillation": {"temperature": {"grid": [1, 2.5]}, "loss": {"grid": ["kd", "dkd"]}}},
    {"training": {"epochs": {"grid": [1, 2]}, "schedule": {"grid": ["constant", "one_cycle"]}}},
    {"model": {"name": "mlp", "hidden": {"grid": [[8], [8, 8]]}}},
    {"model": {"grid": [{"name": "mlp", "hidden": [8]}, {"name": "cnn"}]}},
    {"model": {"name": "mine:net", "options": {"widths": [8, [4]], "deep": {"grid": [1, 2]}}}},
    {"model": {"name": "mine:net", "options": {"widths": {"grid": [[8], [8, 8]]}}}},
]
RANGES = [
    {"distillation": {"temperature": {"between": [1, 20], "scale": "log"}, "alpha": {"between": [0.1, 1.0]}}},
    {"training": {"epochs": {"between": [2, 9]}, "learning_rate": {"between": [1.0e-3, 3.0e-3]}}},
]
WRONG_RANGES = [
    {"distillation": {"temperature": {"between": [0, 20]}}},
    {"distillation": {"alpha": {"between": [0.5]}}},
    {"distillation": {"loss": {"between": [1, 2]}}},
    {"training": {"seed": {"between": [1, 2]}}},
    {"training": {"epochs": {"between": [1.5, 2]}}},
    {"model": {"name": "mlp", "hidden": [{"between": [1, 9]}]}},
]
WRONG = [
    {"name": {"grid": ["a", "b"]}},
    {"seeds": {"grid": [1, 2]}},
    {"training": {"seed": {"grid": [1, 2]}}},
    {"distillation": {"temperature": {"grid": []}}},
    {"distillation": {"temperature": {"grid": [1, 1]}}},
    {"distillation": {"temperature": {"grid": [0]}}},
    {"distillation": {"temperture": 4}},
    {"training": {"epochs": {"grid": [1], "other": 2}}},
    {"model": {"name": "mine:net", "options": {"widths": {"of": 3}}}},
    {"model": {"name": "mine:net", "options": {"widths": {"grid": [[{}], [1]]}}}},
    {"name": "a" * 64},
]


@pytest.fixture(scope="module")
def editor() -> Draft202012Validator:
    schema = schema_of_specs()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def spec(student: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    model = {"name": "mlp", "hidden": [8]}
    students = [{"name": "small", "model": model} | (student or {})]
    return {
        "name": "digits",
        "dataset": {"name": "digits", "validation": 0.1},
        "teacher": {"model": model},
        "students": students,
    } | changes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_accepted(editor: Draft202012Validator, path: Path) -> None:
    editor.validate(SpecFile.read(path).data)


@pytest.mark.parametrize("student", GRIDS, ids=str)
def test_grids_are_accepted_by_both(editor: Draft202012Validator, student: dict[str, Any]) -> None:
    editor.validate(spec(student))
    PipelineSpec.of(spec(student))


@pytest.mark.parametrize("student", WRONG, ids=str)
def test_mistakes_are_refused_by_both(editor: Draft202012Validator, student: dict[str, Any]) -> None:
    assert not editor.is_valid(spec(student))
    with pytest.raises(InvalidSpec):
        PipelineSpec.of(spec(student))


@pytest.mark.parametrize("student", RANGES, ids=str)
def test_ranges_are_accepted_by_the_editor_and_by_tune(editor: Draft202012Validator, student: dict[str, Any]) -> None:
    editor.validate(spec(student))
    TunedSpec.of(SpecFile.of(spec(student)), None)


@pytest.mark.parametrize("student", WRONG_RANGES, ids=str)
def test_what_is_no_range_is_refused_by_the_editor_and_by_tune(
    editor: Draft202012Validator, student: dict[str, Any]
) -> None:
    assert not editor.is_valid(spec(student))
    with pytest.raises(InvalidSpec):
        TunedSpec.of(SpecFile.of(spec(student)), None)


def test_a_teacher_has_no_grids(editor: Draft202012Validator) -> None:
    teacher = {"model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": {"grid": [1, 2]}}}

    assert not editor.is_valid(spec(teacher=teacher))
