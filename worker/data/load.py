"""Loading: a data set is read once from its source, of any kind, and checked."""

from __future__ import annotations

from dataclasses import replace

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources import own
from distill_queue.worker.data.sources.table import SOURCES


def load(dataset: DatasetSpec, reading: Reading) -> Arrays:
    """The arrays of a data set by name, or of the user's own, with the labels and held-out samples that are asked for.

    Raises:
        InvalidSpec: the user's callable cannot be used, returns something else than arrays, or has too few of them.
        Unavailable: a download failed, and may go well another time.
        StageFailed: a download failed for good, or what was downloaded is damaged.

    """
    if isinstance(dataset, NamedDatasetSpec) and is_reference(dataset.name):
        arrays = own.read(dataset, reading)
    else:
        arrays = SOURCES[dataset.name.partition("/")[0]](dataset, reading).checked(dataset.called)
    if dataset.labelled is not None:
        arrays = arrays.labelled_only(dataset.labelled)
    if dataset.refuses_own_validation or (dataset.validation and arrays.held_out is None):
        arrays = arrays.holding_out(dataset.validation)
    return replace(arrays, normalise=dataset.normalise)
