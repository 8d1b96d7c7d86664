"""Import soft labels: the logits of a file, stored as the soft labels of the training samples."""

from __future__ import annotations

from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.recipes import ImportSoftLabels
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.label_file import LabelFile
from distill_queue.shared.soft_labels.statistics import better_than_chance
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.worker.machine.outages import read_errors
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.label_facts import header_of, progress_in_words, record_of_labels, targets_of

LABEL_FILE = "labels"


def run(recipe: ImportSoftLabels, context: StageContext) -> tuple[Path, SoftLabelsRecord]:
    """Store the logits of a file as soft labels of the training samples.

    Returns:
        The folder of the sealed labels, and their record.

    Raises:
        InvalidSpec: they are not of these samples, classes or views; the message says what differs.

    """
    source = context.inputs["file"]
    path = next(source.folder / name for name in source.manifest.files if name.startswith(LABEL_FILE))
    with read_errors(path), LabelFile.open(path, called="teacher.soft_labels") as file:
        header = header_of(recipe, context, teacher_key=file.facts.teacher_key or source.manifest.key)
        _require(file, header)
        writer = SoftLabelsWriter.begin(context.folder, header, source.manifest.key, context.bucket)
        for block, logits in file.blocks(header):
            writer.write(block, logits)
            view, rows = header.rows_of(block)
            words, share = progress_in_words(header, view, rows.stop)
            context.report(words, rows.stop - rows.start, share)
    labels, targets = writer.seal(), targets_of(context)
    record = record_of_labels(labels, targets)
    if not better_than_chance(record.accuracy, targets):
        raise InvalidSpec(
            f"teacher.soft_labels: the first class is right on {record.accuracy:.1%} of the samples, no more than "
            "by chance: are the rows in the order of the training samples, as 'distill labels samples' writes them?"
        )
    return labels.folder, record


def _require(file: LabelFile, header: SoftLabelsHeader) -> None:
    """Refuse a file of other samples, classes, data or views."""
    facts = file.facts
    for what, found, wanted in (
        ("views", file.views, header.views),
        ("samples", file.samples, header.samples),
        ("classes", file.classes, header.classes),
    ):
        if found != wanted:
            raise InvalidSpec(f"teacher.soft_labels: labels of {found:,} {what}, and the pipeline has {wanted:,}")
    if facts.class_names and facts.class_names != header.class_names:
        raise InvalidSpec(
            f"teacher.soft_labels: its classes are {', '.join(facts.class_names[:5])} …, and the data set's are "
            f"{', '.join(header.class_names[:5])} …"
        )
    if facts.dataset_key not in ("", header.dataset_key):
        raise InvalidSpec(
            f"teacher.soft_labels: labels of data set {facts.dataset_key[:8]}, not of {header.dataset_key[:8]}"
        )
    if (facts.augmentation, facts.augmentation_fingerprint) != (header.augmentation, header.augmentation_fingerprint):
        raise InvalidSpec(
            f"teacher.soft_labels: labels of views by {facts.augmentation or 'no augmentation'}, and the pipeline's "
            f"are by {header.augmentation or 'none'}"
        )
