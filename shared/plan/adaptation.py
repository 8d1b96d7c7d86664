"""Adaptation: how a student is trained on for a while with rounded weights, before it becomes a file of integers."""

from __future__ import annotations

from distill_queue.shared.plan.recipes import Distill
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.schedule import ends_of
from distill_queue.shared.spec.training import TrainingSpec

#: What the epochs and the learning rate are divided by, beside those that the student was trained with.
SHORTER, SLOWER = 10, 10
#: What would have no effect in so short a training, or a wrong one.
_LEFT_OUT = {
    "schedule", "milestones", "gamma", "power", "warmup", "keep", "best_by", "patience", "keep_state", "ema_decay",
}  # fmt: skip


def adaptation_of(recipe: Distill) -> Distill:
    """The training that goes on from a student's, with its own losses as they were in the end, and in float32."""
    return recipe.model_copy(
        update={
            "training": _training(recipe.training),
            "distillation": _at_its_end(recipe.distillation),
            "start": None,
        }
    )


def _training(training: TrainingSpec) -> TrainingSpec:
    # Read anew, as copies remember what was said: options of a schedule would be refused beside another one.
    said = training.model_dump(exclude_unset=True, exclude=_LEFT_OUT)
    rates = [each | {"learning_rate": each["learning_rate"] / SLOWER} for each in said.pop("learning_rates", ())]
    return TrainingSpec.model_validate(
        said
        | ({"learning_rates": rates} if rates else {})
        | {
            "epochs": max(1, round(training.epochs / SHORTER)),
            "learning_rate": training.learning_rate / SLOWER,
            "schedule": "cosine",
            "precision": "float32",
        }
    )


def _at_its_end(distillation: DistillationSpec) -> DistillationSpec:
    ends = {name: ends_of(getattr(distillation, name))[1] for name in ("temperature", "alpha")}
    return distillation.model_copy(update=ends)
