"""Loading: a data set is read once from its source, of any kind, and checked."""

from __future__ import annotations

from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.sources import own
from distill_queue.worker.data.sources.table import SOURCES
from distill_queue.worker.machine.runtime import Runtime


def load(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays of a data set by name, or of the user's own, with the labels and held-out samples that are asked for.

    Raises:
        InvalidSpec: the user's callable cannot be used, returns something else than arrays, or has too few of them.
        Unavailable: a download failed, and may go well another time.
        StageFailed: a download failed for good, or what was downloaded is damaged.

    """
    builtin = SOURCES.get(dataset.name)
    arrays = own.read(dataset, runtime) if builtin is None else builtin(dataset, runtime).checked(dataset.name)
    if dataset.labelled is not None:
        arrays = arrays.labelled_only(dataset.labelled)
    if dataset.validation:
        arrays = arrays.holding_out(dataset.validation)
    return arrays
