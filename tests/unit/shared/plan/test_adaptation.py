"""How a student is trained on before it becomes a file of integers, and where a plan has it."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.adaptation import adaptation_of
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.recipes import Distill, Export
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec

MLP = {"name": "mlp", "hidden": [8]}
AWARE = {"formats": ["onnx", "onnx-int8"], "quantise": "aware"}


def plan(student: dict[str, Any], **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "name": "p",
        "dataset": {"name": "digits", "validation": 0.2},
        "teacher": {"model": MLP},
        "students": [{"name": "s", "model": MLP} | student],
    }
    return Plan.of(PipelineSpec.of(values | changes))


def exports(of: Plan) -> dict[str, tuple[Stage, Export]]:
    """The exports of a plan, by their formats."""
    return {stage.recipe.format: (stage, stage.recipe) for stage in of.stages if isinstance(stage.recipe, Export)}


def trained(of: Plan) -> list[Stage]:
    return [stage for stage in of.stages if isinstance(stage.recipe, Distill)]


def adapted(training: dict[str, Any], **distillation: Any) -> Distill:
    (stage,) = trained(plan({"training": training, "distillation": distillation}))
    assert isinstance(stage.recipe, Distill)
    return adaptation_of(stage.recipe)


def test_a_student_is_trained_on_for_a_tenth_of_its_epochs_at_a_tenth_of_its_rate_in_float32() -> None:
    found = adapted({"epochs": 50, "learning_rate": 0.02, "batch_size": 32, "freeze": ["head.*"], "weight_decay": 0.1})

    training = found.training
    assert (training.epochs, training.learning_rate, training.precision) == (5, pytest.approx(0.002), "float32")
    assert (training.batch_size, training.freeze, training.weight_decay) == (32, ("head.*",), 0.1)


@pytest.mark.parametrize("epochs", [1, 4])
def test_at_least_one_epoch_is_trained_on(epochs: int) -> None:
    assert adapted({"epochs": epochs}).training.epochs == 1


def test_rates_of_some_parameters_become_smaller_too() -> None:
    found = adapted({"learning_rates": {"head.*": 0.01, "layers.*": 0.0001}})

    assert [each.learning_rate for each in found.training.learning_rates] == pytest.approx([0.001, 0.00001])


@pytest.mark.parametrize(
    "training",
    [
        {"epochs": 90, "schedule": "step", "milestones": [30, 60], "gamma": 0.2},
        {"schedule": "polynomial", "power": 2.0, "warmup": 0.2},
        {"keep": "best", "best_by": "macro_f1", "patience": 2},
        {"keep_state": True, "schedule": "constant"},
        {"ema_decay": 0.999},
    ],
    ids=["milestones", "power", "the best epoch", "kept state", "averaged weights"],
)
def test_what_makes_no_sense_in_a_short_training_is_left_out(training: dict[str, Any]) -> None:
    found = adapted(training).training

    assert found.schedule == "cosine"
    assert (found.warmup, found.keep, found.patience, found.ema_decay, found.keep_state) == (
        0.0,
        "last",
        None,
        None,
        False,
    )
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_loss_that_changed_is_as_it_was_in_the_end() -> None:
    found = adapted({}, temperature={"from": 8.0, "to": 2.0}, alpha=0.5)

    assert (found.distillation.temperature, found.distillation.alpha) == (2.0, 0.5)


def test_the_file_of_integers_has_the_training_and_what_it_learns_from_and_the_other_file_has_not() -> None:
    made = exports(plan({"export": AWARE}))
    plain = exports(plan({"export": {"formats": ["onnx", "onnx-int8"]}}))

    (numbers, of_numbers), (integers, of_integers) = made["onnx"], made["onnx-int8"]
    assert len(of_integers.adaptations) == 1
    assert set(integers.inputs) == {"dataset", "model", "soft_labels"}
    assert not of_numbers.adaptations
    assert numbers.key == plain["onnx"][0].key
    assert integers.key != plain["onnx-int8"][0].key
    assert "adaptations" not in plain["onnx-int8"][0].model_dump_json()


def test_a_teacher_that_answers_in_each_step_answers_then_too() -> None:
    made = exports(plan({"export": AWARE}, soft_labels={"mode": "online"}))

    stage, recipe = made["onnx-int8"]
    assert set(stage.inputs) == {"dataset", "model", "teacher"}
    assert recipe.adaptations[0].online


def test_of_a_grid_each_point_has_a_training_in_the_order_in_which_it_is_chosen_from() -> None:
    student = {"export": AWARE, "distillation": {"temperature": {"grid": [1, 2, 8]}}, "seeds": 2}

    stage, recipe = exports(plan(student))["onnx-int8"]

    assert [each.distillation.temperature for each in recipe.adaptations] == [1, 2, 8]
    assert {each.training.seed for each in recipe.adaptations} == {0}
    assert set(stage.inputs) == {"dataset", "model", "soft_labels"}


@pytest.mark.parametrize("student", [{}, {"distillation": {"temperature": {"grid": [1, 2]}}}], ids=["one", "grid"])
def test_a_spec_that_is_made_of_the_plan_asks_for_the_same(student: dict[str, Any]) -> None:
    first = plan(student | {"export": AWARE})

    again = Plan.of(PipelineSpec.of(PlannedSpec.of(first).data))

    assert {stage.key for stage in again.stages} == {stage.key for stage in first.stages}


def test_aware_belongs_to_files_of_integers() -> None:
    with pytest.raises(InvalidSpec, match=r"export\.quantise: belongs to files of integers: add onnx-int8"):
        plan({"export": {"formats": ["onnx"], "quantise": "aware"}})
