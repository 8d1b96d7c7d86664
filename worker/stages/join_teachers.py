"""Join teachers: one model of several, whose outputs are averaged."""

from __future__ import annotations

from distill_queue.shared.plan.recipes import JoinTeachers
from distill_queue.shared.results.records import ChoiceRecord, EnsembleRecord
from distill_queue.worker import models
from distill_queue.worker.stages.context import WEIGHTS, StageContext, record_of, weights_of


def run(recipe: JoinTeachers, context: StageContext) -> EnsembleRecord:
    """Make one model of several teachers, or of those that a student's seeds became at the best point of its grid."""
    choice = context.inputs.get("choice")
    best = record_of(choice, ChoiceRecord).best if choice else None
    joined = context.ensemble(recipe, best)
    if choice:
        weights = [choice.path(weights_of(seed)) for seed in recipe.seeds]
    else:
        weights = [context.inputs[f"teacher {number + 1}"].path(WEIGHTS) for number in range(len(joined.models))]
    for teacher, path in zip(joined.models, weights, strict=True):
        models.load(teacher, path)
    models.save(joined, context.folder / WEIGHTS)
    return EnsembleRecord(teachers=len(weights), parameters=models.parameters(joined), best=best)
