"""Choose: the point of a grid that is best on held-out samples."""

from __future__ import annotations

from shutil import copyfile
from statistics import fmean

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.recipes import ChooseStudent
from distill_queue.shared.results.history import HISTORY, history_of
from distill_queue.shared.results.measure import Measure, best_place
from distill_queue.shared.results.records import ChoiceRecord, TrainingRecord
from distill_queue.worker.stages.context import WEIGHTS, StageContext, record_of, weights_of


def run(recipe: ChooseStudent, context: StageContext) -> ChoiceRecord:
    """Find the point of a grid that is best on held-out samples, and take its models."""
    trained = [
        {seed: record_of(context.inputs[f"{place}/{seed}"], TrainingRecord) for seed in recipe.seeds}
        for place in range(len(recipe.labels))
    ]
    measure = _measure({record.best_by for records in trained for record in records.values()})
    held_out = [fmean(_held_out(record, measure) for record in records.values()) for records in trained]
    best = best_place(held_out, measure)
    for seed in recipe.seeds:
        chosen = context.inputs[f"{best}/{seed}"]
        copyfile(chosen.path(WEIGHTS), context.folder / weights_of(seed))
        if HISTORY in chosen.manifest.files:  # Trainings of earlier versions have none.
            copyfile(chosen.path(HISTORY), context.folder / history_of(seed))
    best_by = None if measure == "accuracy" else measure
    return ChoiceRecord(labels=recipe.labels, held_out=tuple(held_out), best_by=best_by, trained=trained[best])


def _measure(best_by: set[Measure | None]) -> Measure:
    """What points are compared by: what all of their epochs were, else the accuracy."""
    first, *others = best_by
    return "accuracy" if first is None or others else first


def _held_out(record: TrainingRecord, measure: Measure) -> float:
    if measure != "accuracy" and record.held_out_measure is not None:
        return record.held_out_measure
    if record.held_out_accuracy is None:
        raise StageFailed("a grid needs held-out samples: set dataset.validation")
    return record.held_out_accuracy
