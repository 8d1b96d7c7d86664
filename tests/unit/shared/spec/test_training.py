"""What a spec may say of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.training import TrainingSpec

SPEC = """name: refused
teacher: {model: {name: mlp, hidden: [8]}}
students:
  - name: small
    model: {name: mlp, hidden: [8]}
    training:
"""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("momentum: 0.9", ":7: students[0].training.momentum: belongs to optimizer 'sgd', not to 'adam'"),
        ("nesterov: true", ":7: students[0].training.nesterov: belongs to optimizer 'sgd', not to 'adam'"),
        ("{optimizer: sgd, momentum: 0.0, nesterov: true}", "training.nesterov: needs a momentum above 0"),
        ("schedule: step", ":7: students[0].training.schedule: 'step' needs milestones, as [60, 80]"),
        ("milestones: [1]", ":7: students[0].training.milestones: belongs to schedule 'step', not to 'one_cycle'"),
        ("gamma: 0.5", "training.gamma: belongs to schedule 'step', not to 'one_cycle'"),
        ("power: 2.0", "training.power: belongs to schedule 'polynomial', not to 'one_cycle'"),
        ("{schedule: step, milestones: [2, 2]}", "training.milestones: each milestone is later than the one before"),
        ("{schedule: step, milestones: [2, 5]}", "training.milestones: epoch 5 is not before the end of 5 epochs"),
        ("clip_norm: 0.0", "training.clip_norm: input should be greater than 0"),
        ("accumulate: 0", "training.accumulate: input should be greater than or equal to 1"),
        ("ema_decay: 1.0", "training.ema_decay: input should be less than 1"),
        ("class_weights: even", ":7: students[0].training.class_weights: input should be 'balanced', not \"even\""),
        ("class_weights: {cat: 0.0}", "training.class_weights.cat: input should be greater than 0"),
        ("class_weights: {}", ":7: students[0].training.class_weights: at least one is needed"),
        ("sampling: balance", "training.sampling: input should be 'even' or 'balanced'"),
        (
            "{sampling: balanced, class_weights: balanced}",
            ":7: students[0].training.class_weights: a small class would",
        ),
        ("best_by: macro_f1", ":7: students[0].training.best_by: compares epochs on held-out samples, which only"),
        ("{keep: best, best_by: f1}", "training.best_by: input should be 'accuracy', 'balanced_accuracy', 'macro_f1'"),
        ("warmup: 0.1", ":7: students[0].training.warmup: 'one_cycle' rises by itself: leave it out, or say another"),
        ("precision: half", "training.precision: input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_their_line(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"{SPEC}      {lines}\n")

    with pytest.raises(InvalidSpec) as refused:
        PipelineSpec.load(path)

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_trained_with_an_option_without_effect_is_still_read() -> None:
    stored = TrainingSpec(schedule="one_cycle", warmup=0.1).model_dump_json()

    assert TrainingSpec.model_validate_json(stored).warmup == 0.1


def test_options_at_their_defaults_are_in_no_message() -> None:
    said = TrainingSpec(optimizer="sgd", momentum=0.9, nesterov=True, clip_norm=None, accumulate=1, ema_decay=None)

    assert said.model_dump(mode="json") == TrainingSpec(optimizer="sgd").model_dump(mode="json")
    assert said.model_dump(mode="json").keys() == TrainingSpec.model_fields.keys() - {
        "momentum", "nesterov", "clip_norm", "accumulate", "milestones", "gamma", "power", "ema_decay",
        "class_weights", "sampling", "best_by", "freeze", "learning_rates", "layer_decay", "keep_state",
    }  # fmt: skip
    assert not said.is_new


@pytest.mark.parametrize(
    ("epochs", "milestones", "schedule"), [(20, (12, 16), "step"), (2, (1,), "step"), (1, (), "constant")]
)
def test_milestones_of_a_shorter_training_stand_at_the_same_shares(
    epochs: int, milestones: tuple[int, ...], schedule: str
) -> None:
    training = TrainingSpec(epochs=100, schedule="step", milestones=(60, 80), gamma=0.5)

    shorter = training.shortened(epochs)

    assert (shorter.epochs, shorter.milestones, shorter.schedule) == (epochs, milestones, schedule)
    assert TrainingSpec.model_validate(shorter) == shorter
    assert TrainingSpec.model_validate_json(shorter.model_dump_json()) == shorter
    assert training.shortened(100) == training


def test_a_message_with_all_options_is_read_again() -> None:
    options: dict[str, Any] = {
        "optimizer": "sgd", "momentum": 0.5, "nesterov": False, "clip_norm": 1.0, "accumulate": 2, "ema_decay": 0.9,
        "schedule": "polynomial", "power": 0.9, "precision": "float16", "class_weights": {"cat": 2.0},
        "sampling": "balanced", "keep": "best", "best_by": "loss",
    }  # fmt: skip
    training = TrainingSpec.model_validate(options)

    assert TrainingSpec.model_validate_json(training.model_dump_json()) == training


def test_classes_that_are_numbers_have_weights_by_their_names() -> None:
    assert TrainingSpec.model_validate({"class_weights": {7: 20.0, "8": 3.0}}).class_weights == {"7": 20.0, "8": 3.0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("dataset: {name: digits, labelled: 100}", "a class is known by its label, and dataset.labelled leaves"),
        ("soft_labels: {augmentation: {mixup: 0.2}}", "mixup and cutmix blend in samples of all classes"),
    ],
)
def test_a_student_draws_by_class_only_what_has_one(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"{SPEC}      sampling: balanced\n{more}\n")

    with pytest.raises(InvalidSpec) as refused:
        PipelineSpec.load(path)

    assert f":7: students[0].training.sampling: {message}" in str(refused.value)


def test_a_teacher_draws_by_class_from_the_samples_with_a_label(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    teacher = "teacher: {model: {name: mlp, hidden: [8]}, training: {sampling: balanced}}"
    text = SPEC.replace("teacher: {model: {name: mlp, hidden: [8]}}", teacher)
    path.write_text(f"{text}      epochs: 1\ndataset: {{name: digits, labelled: 100}}\n")

    assert PipelineSpec.load(path).all_teachers[0].training.sampling == "balanced"

    path.write_text(path.read_text().replace("sampling: balanced", "sampling: balanced, augmentation: {cutmix: 1.0}"))
    with pytest.raises(InvalidSpec, match="mixup and cutmix blend in samples of all classes"):
        PipelineSpec.load(path)


def test_a_shorter_training_without_milestones_is_a_training_as_it_was_said() -> None:
    shorter = TrainingSpec(epochs=10).shortened(2)

    assert shorter == TrainingSpec(epochs=2)
    assert TrainingSpec.model_validate(shorter) == shorter
