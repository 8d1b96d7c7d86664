"""What a stage does, in words: for Flower, comparisons and reports."""

from __future__ import annotations

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import ChoiceRecord


def details(stage: Stage, dataset: str = "") -> tuple[str, ...]:
    """What a stage works with and how; the data set where its name is given."""
    return stage.recipe.details(*((dataset,) if dataset else ()))


def trained(plan: Plan, evaluation: str, choice: ChoiceRecord | None = None, seed: int = 0) -> Stage:
    """How a model was made whose evaluation has a name among the report's inputs; of a chosen one, its best point."""
    stages = {stage.ref: stage for stage in plan.stages}
    model = stages[stages[plan.report.inputs[evaluation]].inputs["model"]]
    return model if choice is None else stages[model.inputs[f"{choice.best}/{seed}"]]
