"""Join teachers: one model of several, whose outputs are averaged."""

from __future__ import annotations

from distill_queue.shared.plan.recipes import JoinTeachers
from distill_queue.shared.results.records import EnsembleRecord
from distill_queue.worker import models
from distill_queue.worker.stages.context import WEIGHTS, StageContext


def run(recipe: JoinTeachers, context: StageContext) -> EnsembleRecord:
    """Make one model of several teachers."""
    joined = context.ensemble(recipe)
    for number, teacher in enumerate(joined.models, start=1):
        models.load(teacher, context.inputs[f"teacher {number}"].path(WEIGHTS))
    models.save(joined, context.folder / WEIGHTS)
    return EnsembleRecord(teachers=len(recipe.models), parameters=models.parameters(joined))
