"""Load a teacher: weights that the client gave, checked before they teach."""

from __future__ import annotations

from shutil import copyfile

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.plan.recipes import LoadTeacher
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.worker import models
from distill_queue.worker.machine import plugins
from distill_queue.worker.stages import teacher_checks
from distill_queue.worker.stages.context import WEIGHTS, StageContext
from distill_queue.worker.training import own_code, probe


def run(recipe: LoadTeacher, context: StageContext) -> WeightsRecord:
    """Check that given weights are those of the teacher's model, and take them."""
    weights = context.inputs["checkpoint"].path(WEIGHTS)
    file = context.title.partition(" from ")[2]  # As the user calls it: the store knows it by its content.
    called = f"teacher.checkpoint: {file}" if file else "teacher.checkpoint"
    model = context.built(recipe.model, recipe.classes)
    renamed = models.load_given(model, weights, called)
    train = context.split("train", streamed=True)
    name = recipe.model.name if is_reference(recipe.model.name) else ""
    if name:
        own_code.require_steady(model, name, train.normalised(slice(0, probe.ROWS)))
    context.choosing(model, recipe.classes)
    with plugins.called(name):
        _, batch_size = context.inference(model, train, size_bytes=0)
        warnings = tuple(
            teacher_checks.check(model, recipe.normalise, context.dataset, train, batch_size, context.report)
        )
    if renamed:
        models.save(model, context.folder / WEIGHTS)
    else:
        copyfile(weights, context.folder / WEIGHTS)
    return WeightsRecord(parameters=models.parameters(model), taken=renamed or None, warnings=warnings)
