"""The spec that a plan tells is one that makes the plan again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.given_files import weights_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.unit.given_files import write_given_files

ROOT = Path(__file__).parents[4]
MLP = {"name": "mlp", "hidden": [8]}
#: Changes of a small spec, each of another part.
CHANGES: dict[str, dict[str, Any]] = {
    "data of one's own": {
        "dataset": {"name": "mine.data:load", "options": {"size": 1e-5, "on": "no"}, "version": "1e3", "labelled": 9}
    },
    "several teachers": {
        "teachers": [{"model": MLP, "weight": 2.0}, {"model": {"name": "cnn"}, "training": {"seed": 7}}],
        "teacher": None,
        "average": "logits",
    },
    "views": {"soft_labels": {"views": 3, "augmentation": {"shift": 2}, "dtype": "uint8", "top_k": 4, "shards": 2}},
    "a teacher that answers in each step": {"soft_labels": {"mode": "online", "augmentation": {"shift": 2}}},
    "no controls": {"evaluation": {"control": False}},
    "accepted warnings": {"accept": ["unused_classes", "normalisation"]},
    "exports": {
        "students": [
            {"name": "a", "model": MLP, "export": {}},
            {"name": "b", "model": MLP, "seeds": 2, "export": {"formats": ["onnx-int8", "onnx"], "tolerance": 0.5}},
        ]
    },
    "queue": {"device": "cpu", "priority": "high", "time_limits": {"distill": 60.0}},
    "a budget": {"budget": {"bytes": 50_000, "accuracy": 97}},
    "students": {
        "students": [
            {"name": "1e3", "model": {"name": "resnet8"}, "seeds": 3, "training": {"seed": 5, "learning_rate": 1e-5}},
            {"name": "no", "model": {"name": "mine.models:make", "options": {"width": 4}}},
            {"name": "own", "model": MLP, "distillation": {"loss": "mine.losses:soft", "options": {"a": None}}},
            {"name": "null", "model": MLP, "distillation": {"loss": "dkd", "others_weight": 2.0}},
        ]
    },
}
#: Grids in parts of a student.
GRIDS: dict[str, dict[str, Any]] = {
    "two fields": {"distillation": {"temperature": {"grid": [1, 4.0]}, "alpha": {"grid": [0.1, 0.9]}}},
    "fields in another order": {"distillation": {"alpha": {"grid": [0.1, 0.9]}, "temperature": {"grid": [1, 4]}}},
    "widths": {"model": {"name": "mlp", "hidden": {"grid": [[], [8], [16, 8]]}}},
    "whole models": {"model": {"grid": [MLP, {"name": "cnn"}, {"name": "cnn", "width": 32}]}},
    "options": {"model": {"name": "mine.models:make", "options": {"w": {"grid": [1, 2]}, "deep": {"grid": [True]}}}},
    "schedules": {
        "distillation": {"temperature": {"grid": [4, {"from": 8, "to": 1}]}, "alpha": {"from": 0.9, "to": 0.3}}
    },
    "ends of a schedule": {"distillation": {"temperature": {"from": {"grid": [8, 4]}, "to": 1}}},
    "one value": {"distillation": {"temperature": {"grid": [2]}}},
    "seeds": {"distillation": {"temperature": {"grid": [1, 2]}}, "seeds": 2, "training": {"epochs": 2, "seed": 3}},
}


def read_again(plan: Plan, path: Path) -> Plan:
    """The plan of the spec that a plan tells, from a file."""
    path.write_text(PlannedSpec.of(plan).text)
    return Plan.of(PipelineSpec.load(path))


def nameless(plan: Plan) -> Plan:
    """A plan without the names of given files in its titles."""

    def renamed(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(stage.model_copy(update={"title": stage.title.partition(" from ")[0]}) for stage in stages)

    return plan.model_copy(update={"trunk": renamed(plan.trunk), "teachers": renamed(plan.teachers)})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_plans_of_all_examples_are_made_again(path: Path, tmp_path: Path) -> None:
    write_given_files(tmp_path)
    spec = PipelineSpec.load(Path(shutil.copy(path, tmp_path)))
    plan = Plan.of(spec)
    for name in PlannedSpec.of(plan).files:
        if name.endswith(".npz"):
            shutil.copy(tmp_path / "labels.npz", tmp_path / name)
        else:
            (tmp_path / name).write_bytes(b"".join(weights_of(spec.all_teachers[0], spec.dataset).pieces()))

    assert nameless(read_again(plan, tmp_path / "again.yaml")) == nameless(plan)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_that_a_plan_has_is_left_out(
    make_spec: Callable[..., PipelineSpec], change: str, tmp_path: Path
) -> None:
    plan = Plan.of(make_spec(**CHANGES[change]))

    assert read_again(plan, tmp_path / "again.yaml") == plan


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_are_found_again(make_spec: Callable[..., PipelineSpec], grid: str, tmp_path: Path) -> None:
    student = {"name": "small", "model": MLP} | GRIDS[grid]
    plan = Plan.of(make_spec(dataset={"name": "digits", "validation": 0.2}, students=[student]))

    again = read_again(plan, tmp_path / "again.yaml")

    # A grid of one value is none: only the titles have told it.
    assert [stage.key for stage in again.stages] == [stage.key for stage in plan.stages]


def test_a_grid_is_written_as_its_user_writes_it(make_spec: Callable[..., PipelineSpec]) -> None:
    student = {"name": "small", "model": MLP, "distillation": {"temperature": {"grid": [1.0, 4.0]}}}

    planned = PlannedSpec.of(Plan.of(make_spec(dataset={"name": "digits", "validation": 0.2}, students=[student])))

    assert planned.data["students"] == [student]


def test_weights_of_ones_own_are_named_beside_the_spec(make_spec: Callable[..., PipelineSpec], tmp_path: Path) -> None:
    weights = tmp_path / "of somebody.safetensors"
    save_file({"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}, weights)
    linear = {"name": "mlp", "hidden": []}
    plan = Plan.of(make_spec(teacher={"model": linear, "checkpoint": str(weights)}))

    planned = PlannedSpec.of(plan)

    assert list(planned.files.values()) == [plan.trunk[1].inputs["checkpoint"]]
    for name in planned.files:
        weights.rename(tmp_path / name)
    assert str(tmp_path) not in planned.text
    assert nameless(read_again(plan, tmp_path / "again.yaml")) == nameless(plan)


def test_what_given_weights_were_trained_on_is_told(make_spec: Callable[..., PipelineSpec], tmp_path: Path) -> None:
    linear, paths = {"name": "mlp", "hidden": []}, [tmp_path / f"{name}.safetensors" for name in "ab"]
    for number, path in enumerate(paths):
        save_file({"head.weight": torch.zeros(10, 64), "head.bias": torch.full((10,), float(number))}, path)
    given = [{"model": linear, "checkpoint": str(path)} for path in paths]
    own = {"normalise": {"mean": [0.5], "std": [2.0]}, "classes": [*"9876543210"]}
    plan = Plan.of(make_spec(teacher=None, teachers=[given[0] | {"normalise": "unit"}, given[1] | own]))

    planned = PlannedSpec.of(plan)

    assert [teacher.get("normalise") for teacher in planned.data["teachers"]] == ["unit", own["normalise"]]
    assert [teacher.get("classes") for teacher in planned.data["teachers"]] == [None, own["classes"]]
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    for path, name in zip(paths, planned.files, strict=True):
        path.rename(tmp_path / name)
    assert nameless(read_again(plan, tmp_path / "again.yaml")) == nameless(plan)


def test_packages_of_ones_own_are_told(make_spec: Callable[..., PipelineSpec]) -> None:
    changes = {"dataset": {"name": "ours.data:load"}} | CHANGES["students"]

    assert PlannedSpec.of(Plan.of(make_spec(**changes))).packages == ("mine", "ours")
    assert PlannedSpec.of(Plan.of(make_spec())).packages == ()


def test_a_plan_whose_spec_is_refused_by_now_tells_none(make_spec: Callable[..., PipelineSpec]) -> None:
    plan = Plan.of(make_spec())
    (data, *others), recipe = plan.trunk, plan.trunk[0].recipe
    gone = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"name": "gone"})})  # type: ignore[union-attr]
    older = plan.model_copy(update={"trunk": (data.model_copy(update={"recipe": gone}), *others)})

    with pytest.raises(InvalidSpec, match="gone"):
        PlannedSpec.of(older)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True)
    | st.sampled_from(
        ["1e3", "no", "010", "0x1", "1:20", "2020-01-01", "null", "~", "true", ".inf", "1_000", "=", "<<"]
    )
)


@given(st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=10))
def test_what_is_written_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"

    path.write_text(SpecFile.written({"value": value}))

    assert SpecFile.read(path).data == {"value": value}
