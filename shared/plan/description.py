"""What a stage does, in words: for Flower, comparisons and reports."""

from __future__ import annotations

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import (
    Distill,
    JoinTeachers,
    Labels,
    LoadTeacher,
    PrepareData,
    TrainControl,
    TrainTeacher,
)
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import ChoiceRecord


def details(stage: Stage, dataset: str = "") -> tuple[str, ...]:
    """What a stage works with and how; the data set where its name is given."""
    named = (dataset,) if dataset else ()
    match stage.recipe:
        case PrepareData():  # Its title has the data set.
            return ()
        case LoadTeacher(model=model, normalise=normalise):
            return (model.words, *named, *(() if normalise == "data" else (f"normalise: {normalise}",)))
        case JoinTeachers(models=models):
            return (*(model.words for model in models), *named)
        case TrainTeacher(model=model, training=training) | TrainControl(model=model, training=training):
            return (model.words, *named, _epochs(training.epochs))
        case Distill(model=model, training=training, distillation=distillation):
            loss = "" if distillation.loss == "kd" else f"{distillation.loss} "
            how = f"{loss}T={distillation.temperature:g} alpha={distillation.alpha:g}"
            return (model.words, *named, how, _epochs(training.epochs))
        case Labels(views=views, encoding=encoding):
            return (*named, encoding.name, *((f"{views} views",) if views > 1 else ()))
        case _:
            return named


def trained(plan: Plan, evaluation: str, choice: ChoiceRecord | None = None, seed: int = 0) -> Stage:
    """How a model was made whose evaluation has a name among the report's inputs; of a chosen one, its best point."""
    stages = {stage.ref: stage for stage in plan.stages}
    model = stages[stages[plan.report.inputs[evaluation]].inputs["model"]]
    return model if choice is None else stages[model.inputs[f"{choice.best}/{seed}"]]


def _epochs(epochs: int) -> str:
    return f"{epochs:,} epoch{'' if epochs == 1 else 's'}"
