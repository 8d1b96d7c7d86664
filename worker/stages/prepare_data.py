"""Prepare data: a data set, packed into memory-mappable arrays."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.worker.data import load as data
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.stages.context import StageContext


def run(recipe: PrepareData, context: StageContext) -> DatasetRecord:
    """Pack a data set into memory-mappable arrays."""
    context.report("reading")
    with TemporaryDirectory(dir=context.folder) as scratch:
        reading = Reading(context.runtime, Path(scratch), context.report)
        record = data.load(recipe.dataset, reading).save(context.folder)
        reading.require_unchanged(recipe.dataset, record.content)
        return record
