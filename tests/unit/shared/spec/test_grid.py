"""Grids: their points, what is planned for them, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import ChooseStudent
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord, TrainingRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.spec.grid import points, values_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.student import StudentGrid, StudentSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
HELD_OUT = {"name": "digits", "validation": 0.2}


def student(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 2}} | changes


def test_points_are_all_combinations_in_order() -> None:
    found = points({"a": {"grid": [1, 2.5]}, "b": {"c": {"grid": [[3], [4, 5]]}, "d": 6}})

    assert found == [
        ("a 1, c 3", {"a": 1, "b": {"c": [3], "d": 6}}),
        ("a 1, c 4-5", {"a": 1, "b": {"c": [4, 5], "d": 6}}),
        ("a 2.5, c 3", {"a": 2.5, "b": {"c": [3], "d": 6}}),
        ("a 2.5, c 4-5", {"a": 2.5, "b": {"c": [4, 5], "d": 6}}),
    ]


def test_values_that_are_nearly_the_same_are_told_apart() -> None:
    labels = [label for label, _ in points({"a": {"grid": [0.00123456, 0.001234561]}})]
    assert labels == ["a 0.00123456", "a 0.001234561"]


def test_a_number_that_is_named_grid_is_no_grid(make_spec: MakeSpec) -> None:
    model = {"name": "mine:model", "options": {"grid": 8}}
    assert isinstance(make_spec(students=[student(model=model)]).students[0], StudentSpec)


def test_fields_of_one_name_are_told_apart() -> None:
    assert points({"a": {"x": {"grid": [1]}}, "b": {"x": {"grid": [2]}}})[0][0] == "a.x 1, b.x 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distillation": {"temperature": {"grid": []}}}, "distillation.temperature: the grid has no values"),
        ({"distillation": {"temperature": {"grid": 3}}}, "distillation.temperature"),
        ({"distillation": {"temperature": {"grid": [1, 1.0]}}}, "a value stands twice"),
        ({"points": []}, "points"),
        ({"distillation": {"temperature": {"grid": [2, 2]}}}, "a value stands twice"),
        (
            {"distillation": {"temperature": {"grid": [2, -1]}}},
            "with temperature -1: distillation.temperature: input",
        ),
        ({"distillation": {"temprature": {"grid": [2, 1]}}}, "with temprature 2: .*temprature: unknown key"),
        ({"seeds": {"grid": [2, 3]}}, "'seeds' cannot be a grid"),
        ({"name": {"grid": ["a", "b"]}}, "'name' cannot be a grid"),
        ({"training": {"seed": {"grid": [0, 1]}}}, "'training.seed' cannot be a grid"),
        ({"training": {"epochs": {"grid": list(range(1, 301))}}}, "the grid has 300 points, more than 256"),
    ],
)
def test_a_grid_with_a_mistake_is_refused(make_spec: MakeSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(students=[student(**change)], dataset=HELD_OUT)


def test_a_mistake_in_a_grid_is_found_in_the_file(write_spec: Callable[..., Path]) -> None:
    path = write_spec(students=[student(training={"epochs": {"grid": [1, 0]}})], dataset=HELD_OUT)
    with pytest.raises(InvalidSpec, match=r"spec.yaml:\d+: students\[0\]: with epochs 0: training.epochs: "):
        PipelineSpec.load(path)


def test_a_grid_needs_held_out_samples(make_spec: MakeSpec) -> None:
    with pytest.raises(ValidationError, match="'small' has a grid, whose points are compared on held-out samples"):
        make_spec(students=[student(distillation={"temperature": {"grid": [1, 2]}})])


def grid_spec(make_spec: MakeSpec, **changes: Any) -> PipelineSpec:
    grid = student(distillation={"temperature": {"grid": [1, 2, 4]}, "alpha": 0.5}, seeds=2)
    return make_spec(**{"students": [grid, student(name="other")], "dataset": HELD_OUT} | changes)


def test_only_the_chosen_models_are_scored_on_the_test_set(make_spec: MakeSpec) -> None:
    plan = Plan.of(grid_spec(make_spec))
    titles = [stage.title for stage in plan.stages]

    assert sum(title.startswith("distill small") for title in titles) == 6
    assert sum("control" in title for title in titles if title.startswith("train")) == 2, "one control for all points"
    assert [title for title in titles if title.startswith("evaluate small")] == [
        "evaluate small, seed 0/control",
        "evaluate small, seed 1/control",
        "evaluate small, seed 0",
        "evaluate small, seed 1",
    ]
    assert titles.count("choose small") == 1
    seen: set[str] = set()
    for stage in plan.stages:
        assert {ref.key for ref in stage.inputs.values()} <= seen, stage.title
        seen.add(stage.key)


def test_controls_get_the_same_grid(make_spec: MakeSpec) -> None:
    rates = {"epochs": 1, "learning_rate": {"grid": [1e-3, 1e-2]}}
    plan = Plan.of(make_spec(students=[student(training=rates)], dataset=HELD_OUT))
    titles = [stage.title for stage in plan.stages]

    assert [title for title in titles if title.startswith(("train small", "choose"))] == [
        "train small/control (learning_rate 0.001)",
        "train small/control (learning_rate 0.01)",
        "choose small",
        "choose small/control",
    ]


def test_a_control_is_not_labelled_with_what_it_knows_nothing_of(make_spec: MakeSpec) -> None:
    grid = student(distillation={"temperature": {"grid": [1, 2]}}, training={"epochs": {"grid": [1, 2]}})
    recipes = [stage.recipe for stage in Plan.of(make_spec(students=[grid], dataset=HELD_OUT)).stages]
    of_student, of_control = (recipe for recipe in recipes if isinstance(recipe, ChooseStudent))
    assert of_student.labels == tuple(f"epochs {epochs}, temperature {each}" for epochs in (1, 2) for each in (1, 2))
    assert of_control.labels == ("epochs 1", "epochs 2")


def test_a_failed_candidate_blocks_the_choice(make_spec: MakeSpec) -> None:
    plan = Plan.of(grid_spec(make_spec, fuse="off"))
    failed = next(stage for stage in plan.stages if stage.title == "distill small, seed 0 (temperature 2)")
    blocked = {stage.title for stage in plan.stages if stage.key in plan.blocked_by({failed.key})}
    assert blocked == {"choose small", "evaluate small, seed 0", "evaluate small, seed 1", "report"}


def test_a_spec_with_a_grid_is_read_back(make_spec: MakeSpec) -> None:
    spec = grid_spec(make_spec)
    assert isinstance(spec.students[0], StudentGrid)
    again = PipelineSpec.model_validate_json(spec.model_dump_json())
    assert Plan.of(again) == Plan.of(spec)


def test_the_point_that_is_best_on_held_out_samples_is_scored(make_spec: MakeSpec, tmp_path: Path) -> None:
    rates = {"epochs": 1, "learning_rate": {"grid": [1e-5, 1e-2]}}
    spec = make_spec(students=[student(training=rates, seeds=2)], dataset=HELD_OUT)
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu")), lambda *_: None)
    records = {stage.title: runner.run(stage).record for stage in Plan.of(spec).stages}

    choice, report = records["choose small"], records["report"]
    assert isinstance(choice, ChoiceRecord)
    assert isinstance(report, ReportRecord)
    assert choice.labels[choice.best] == "learning_rate 0.01"
    trained = [records[f"distill small, seed {seed} (learning_rate 0.01)"] for seed in (0, 1)]
    chosen = [record for record in trained if isinstance(record, TrainingRecord)]
    assert choice.held_out[1] == pytest.approx(sum(record.held_out_accuracy or 0.0 for record in chosen) / 2)
    assert report.students[0].choice == choice
    assert report.students[0].control_choice is not None
    scored = [run.student.training_seconds for run in report.students[0].runs]
    assert scored == [record.seconds for record in chosen], "the chosen point's own models"


@pytest.mark.parametrize("measure", ["macro_f1", "loss"])
def test_the_point_is_chosen_by_what_its_epochs_are_compared_by(
    make_spec: MakeSpec, tmp_path: Path, measure: str
) -> None:
    rates = {"epochs": 4, "batch_size": 32, "learning_rate": {"grid": [1e-2, 1e-5]}, "keep": "best", "best_by": measure}
    spec = make_spec(students=[student(training=rates)], dataset=HELD_OUT, evaluation={"control": False})
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu")), lambda *_: None)
    records = {stage.title: runner.run(stage).record for stage in Plan.of(spec).stages}

    choice, trained = records["choose small"], records["distill small (learning_rate 0.01)"]
    assert isinstance(choice, ChoiceRecord)
    assert isinstance(trained, TrainingRecord)
    assert choice.best_by == measure
    assert choice.held_out[0] == trained.held_out_measure
    assert choice.labels[choice.best] == "learning_rate 0.01"
    assert choice.trained[0] == trained
    scored = records["evaluate small"]
    assert isinstance(scored, EvaluationRecord)
    assert (scored.classes is not None) == (measure == "macro_f1")


def test_the_labels_of_a_grid_say_what_its_points_are() -> None:
    grid = {"distillation": {"temperature": {"grid": [1, 2.5]}, "alpha": {"grid": [0.5]}}}

    found = values_of([label for label, _ in points(grid)])

    assert found == [{"temperature": "1", "alpha": "0.5"}, {"temperature": "2.5", "alpha": "0.5"}]


def test_labels_that_say_nothing_of_the_kind_give_no_values() -> None:
    assert values_of(["name a, b", "name c"]) == [{}, {}]
    assert values_of(["", "temperature 2"]) == [{}, {}]
