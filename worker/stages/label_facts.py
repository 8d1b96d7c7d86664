"""Facts of soft labels, computed or imported: their header, their record, and how far their stage is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.files.folders import size_below
from distill_queue.shared.plan.recipes import Labels
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.soft_labels.cache import SoftLabels, SoftLabelsHeader, block_rows
from distill_queue.shared.soft_labels.statistics import LabelStatistics
from distill_queue.worker.data.views.fingerprint import header_facts
from distill_queue.worker.stages.context import StageContext


def header_of(recipe: Labels, context: StageContext, teacher_key: str) -> SoftLabelsHeader:
    """Return the header of a stage's labels, not sealed yet."""
    dataset = context.dataset
    return SoftLabelsHeader(
        views=recipe.views,
        samples=dataset.train_samples,
        class_names=dataset.class_names,
        encoding=recipe.encoding,
        dataset_key=context.inputs["dataset"].manifest.key,
        teacher_key=teacher_key,
        block_rows=block_rows(dataset.classes),
        **header_facts(recipe.augmentation, recipe.views),
    )


def targets_of(context: StageContext) -> npt.NDArray[np.int64]:
    """Read the classes of the training samples `[samples]`, int64, -1 where a sample has no label."""
    return read_array(context.inputs["dataset"].path("train_targets.npy"))


def record_of_labels(labels: SoftLabels, targets: npt.NDArray[np.int64], helped: int = 0) -> SoftLabelsRecord:
    """Return the record of sealed labels, some blocks of which helpers computed."""
    return SoftLabelsRecord(
        samples=len(labels),
        views=labels.header.views,
        size_bytes=size_below(labels.folder),
        blocks_of_helpers=helped,
        **LabelStatistics.of(labels, targets).model_dump(),
    )


def progress_in_words(header: SoftLabelsHeader, view: int, stop: int) -> tuple[str, float]:
    """Return how far a stage is that has come to a sample of a view: in words, and as a share from 0 to 1."""
    of_view = f"view {view + 1}/{header.views} · " if header.views > 1 else ""
    share = (view + stop / header.samples) / header.views
    return f"{of_view}{stop:,} of {header.samples:,} samples", share
