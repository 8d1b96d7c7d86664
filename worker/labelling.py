"""Soft labels: the teacher's logits on every view of every sample, computed by one worker or several, or imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from shared.encoding import Array
from shared.errors import InvalidSpec, StoreUnavailable
from shared.label_file import LabelFacts, LabelFile
from shared.label_statistics import LabelStatistics
from shared.recipes import ImportSoftLabels, Labels, SoftLabelling
from shared.records import SoftLabelsRecord
from shared.soft_labels import SoftLabels, SoftLabelsHeader, block_rows
from shared.soft_labels_writer import SoftLabelsWriter
from worker import augment
from worker.batches import Batches
from worker.crew import TRIAL_SECONDS, Crew, worthwhile_helpers
from worker.desk import Desk, seen_as

LABEL_FILE = "labels"
#: Standard deviations by which an imported teacher must be right more often than by always saying the same class.
BEYOND_CHANCE = 3.0


@dataclass
class Labelling:
    """A teacher, the samples that it labels, and how what it says is stored."""

    recipe: SoftLabelling
    desk: Desk

    @cached_property
    def header(self) -> SoftLabelsHeader:
        """What the labels will be."""
        return header_of(self.recipe, self.desk, teacher_key=self.desk.inputs["teacher"].manifest.key)

    @cached_property
    def teacher(self) -> torch.nn.Module:
        """The teacher, on the device."""
        return self.desk.model("teacher").eval()

    @cached_property
    def batch_size(self) -> int:
        """Samples in one forward pass: a block's share, always the same one where there is memory for it."""
        return min(self.desk.split_for(self.teacher, "train")[1], self.header.block_rows)

    @cached_property
    def batches(self) -> Batches:
        """The samples in all views: read from the disk as they are needed, as each is seen once a view."""
        train = self.desk.split("train", streamed=True)
        return Batches(train, self.recipe.augmentation, self.recipe.views, torch.float32, prepare=False)

    @property
    def made_with(self) -> str:
        """What decides on the last bits of a logit: labels of two of these are not mixed."""
        device, capability = self.desk.runtime.device.type, torch.backends.cpu.get_cpu_capability()
        return f"torch {torch.__version__}, {device if device != 'cpu' else capability}, batches of {self.batch_size}"

    @torch.inference_mode()
    def logits(self, block: int) -> Array:
        """The logits `[rows, classes]` of a block, float32, or float16 where they are stored so."""
        view, rows = self.header.rows_of(block)
        encoding = self.header.encoding
        half = encoding.dtype == "float16" and encoding.top_k is None
        parts = []
        for start in range(rows.start, rows.stop, self.batch_size):
            inputs = self.batches.inputs(slice(start, min(start + self.batch_size, rows.stop)), view)
            logits = self.teacher(inputs).float()
            # Rounded on the device, by the same rule as NumPy's, and half as much to be moved.
            parts.append((logits.half() if half else logits).cpu())
        return torch.cat(parts).numpy()


def label_softly(
    recipe: SoftLabelling, desk: Desk, crew: Crew, shards: Literal["auto"] | int = "auto"
) -> SoftLabelsRecord:
    """Write the teacher's logits on every view of every training sample, in the data set's order.

    Goes on with what is in the desk's folder. Others may help; whoever does what, the bytes are the same.
    """
    labelling = Labelling(recipe, desk)
    writer = SoftLabelsWriter.begin(desk.folder, labelling.header, labelling.made_with)
    to_do = len(writer.missing)
    own = _label(labelling, writer, crew, shards)
    return _record(writer.seal(), desk, helped=max(0, to_do - own))


def help_to_label(recipe: SoftLabelling, desk: Desk, crew: Crew) -> int:
    """Label blocks of a stage that another worker is at, as long as there are any; return how many."""
    labelling = Labelling(recipe, desk)
    writer = SoftLabelsWriter.join(desk.folder, labelling.made_with)
    if writer is None:
        return 0
    done = 0
    missing = set(writer.missing)
    for block in crew.blocks(writer.header.blocks):
        if block not in missing:
            continue
        logits = labelling.logits(block)
        with suppress(StoreUnavailable):  # Sealed by now, or a full disk, which the other worker will find too.
            writer.write(block, logits)
            done += 1
        desk.report(_progress(writer.header, block))
    return done


def import_labels(recipe: ImportSoftLabels, desk: Desk) -> SoftLabelsRecord:
    """Store the logits of a file as soft labels of the training samples.

    Raises:
        InvalidSpec: they are not of these samples, classes or views; the message says what differs.

    """
    source = desk.inputs["file"]
    path = next(source.folder / name for name in source.manifest.files if name.startswith(LABEL_FILE))
    with LabelFile.open(path) as file:
        header = header_of(recipe, desk, teacher_key=file.facts.teacher_key or source.manifest.key)
        _require(file, header)
        writer = SoftLabelsWriter.begin(desk.folder, header, source.manifest.key)
        for block, logits in file.blocks(header):
            writer.write(block, logits)
            desk.report(_progress(header, block))
    labels = writer.seal()
    record = _record(labels, desk)
    if not file.facts.dataset_key:
        _require_more_than_chance(record.accuracy, desk)
    return record


def header_of(recipe: Labels, desk: Desk, teacher_key: str) -> SoftLabelsHeader:
    """The header of a stage's labels, before they are sealed."""
    dataset = desk.dataset
    return SoftLabelsHeader(
        views=recipe.views,
        samples=dataset.train_samples,
        class_names=dataset.class_names,
        encoding=recipe.encoding,
        dataset_key=desk.inputs["dataset"].manifest.key,
        teacher_key=teacher_key,
        augmentation=seen_as(recipe),
        augmentation_fingerprint=augment.fingerprint(recipe.augmentation, recipe.views),
        block_rows=block_rows(dataset.classes),
    )


def _label(labelling: Labelling, writer: SoftLabelsWriter, crew: Crew, shards: Literal["auto"] | int) -> int:
    """Write what is missing; return how many blocks this worker wrote."""
    report, missing, own = labelling.desk.report, writer.missing, 0

    def label(block: int) -> None:
        nonlocal own
        writer.write(block, labelling.logits(block))
        own += 1
        report(_progress(writer.header, block))

    begun = _until_help_is_called(labelling, missing, crew, shards, label)
    if begun < len(missing):
        later = set(missing[begun:])
        for block in crew.blocks(writer.header.blocks):
            if block in later:
                label(block)
    # What helpers are at, or have left: done here too, rather than waited for. The bytes are the same.
    while left := writer.missing:
        label(left[0])
    return own


def _until_help_is_called(
    labelling: Labelling,
    missing: list[int],
    crew: Crew,
    shards: Literal["auto"] | int,
    label: Callable[[int], None],
) -> int:
    """Label alone until it is known whether helpers pay, and call them; return how many of the missing are done."""
    seconds: list[float] = []
    wanted = shards - 1 if isinstance(shards, int) else None
    for done, block in enumerate(missing):
        if wanted != 0 and (wanted or sum(seconds) >= TRIAL_SECONDS):
            left = len(missing) - done
            work = left * min(seconds, default=0.0)  # The first ones are slow: libraries prepare themselves.
            helpers = min(wanted or worthwhile_helpers(work, crew.present, _read_bytes(labelling)), left - 1)
            if helpers and crew.call(helpers, block, max(work, TRIAL_SECONDS)):
                return done
            wanted = 0
        started = time.monotonic()
        label(block)
        seconds.append(time.monotonic() - started)
    return len(missing)


def _read_bytes(labelling: Labelling) -> int:
    """Bytes that a helper reads: the teacher, and all samples at the most."""
    inputs = labelling.desk.inputs
    return sum(entry.size_bytes for role in ("teacher", "dataset") for entry in inputs[role].manifest.files.values())


def _record(labels: SoftLabels, desk: Desk, helped: int = 0) -> SoftLabelsRecord:
    targets = np.load(desk.inputs["dataset"].path("train_targets.npy"))
    return SoftLabelsRecord(
        samples=len(labels),
        views=labels.header.views,
        size_bytes=sum(path.stat().st_size for path in labels.folder.iterdir()),
        blocks_of_helpers=helped,
        **LabelStatistics.of(labels, targets).model_dump(),
    )


def _require(file: LabelFile, header: SoftLabelsHeader) -> None:
    """Refuse a file of other samples, classes, data or views."""
    facts = file.facts
    for what, found, wanted in (
        ("views", file.views, header.views),
        ("samples", file.samples, header.samples),
        ("classes", file.classes, header.classes),
    ):
        if found != wanted:
            raise InvalidSpec(f"{file.path.name}: labels of {found:,} {what}, and the pipeline has {wanted:,}")
    if facts.class_names and facts.class_names != header.class_names:
        raise InvalidSpec(
            f"{file.path.name}: its classes are {', '.join(facts.class_names[:5])} …, and the data set's are "
            f"{', '.join(header.class_names[:5])} …"
        )
    if facts.dataset_key not in ("", header.dataset_key):
        raise InvalidSpec(
            f"{file.path.name}: labels of data set {facts.dataset_key[:8]}, not of {header.dataset_key[:8]}"
        )
    given = LabelFacts.model_validate(header.model_dump(include=set(LabelFacts.model_fields)))
    if (facts.augmentation, facts.augmentation_fingerprint) != (given.augmentation, given.augmentation_fingerprint):
        raise InvalidSpec(
            f"{file.path.name}: labels of views by {facts.augmentation or 'no augmentation'}, and the pipeline's are "
            f"by {given.augmentation or 'none'}"
        )


def _require_more_than_chance(accuracy: float, desk: Desk) -> None:
    """Refuse labels that are right no more often than those of another order of the samples would be."""
    targets = np.load(desk.inputs["dataset"].path("train_targets.npy"))
    targets = targets[targets >= 0]
    largest = float(np.bincount(targets).max() / len(targets))
    if accuracy <= largest + BEYOND_CHANCE * (largest * (1 - largest) / len(targets)) ** 0.5:
        raise InvalidSpec(
            f"the labels' first class is right on {accuracy:.1%} of the samples, and always saying the most frequent "
            f"class on {largest:.1%}: their rows are not in the order of the data set's training samples"
        )


def _progress(header: SoftLabelsHeader, block: int) -> str:
    view, rows = header.rows_of(block)
    of_view = f"view {view + 1}/{header.views} · " if header.views > 1 else ""
    return f"{of_view}{rows.stop:,} of {header.samples:,} samples"
