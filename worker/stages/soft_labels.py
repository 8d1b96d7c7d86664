"""Soft labels: the teacher's logits on every view of every sample, computed by one worker or several."""

from __future__ import annotations

import logging
import math
import os
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from distill_queue.shared.errors import StoreUnavailable
from distill_queue.shared.plan.recipes import SoftLabelling
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.numerics import LARGEST_SMALL, Array
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.machine.inputs import Inputs, each, first, through
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.crew import AGAIN_SECONDS, TRIAL_SECONDS, Crew, worthwhile_helpers
from distill_queue.worker.stages.label_facts import header_of, progress_in_words, record_of_labels, targets_of

#: Fewest rows in one forward pass.
FEWEST_ROWS = 32
#: Seconds between two looks at what others have finished.
LOOK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass
class Labelling:
    """A teacher, the samples that it labels, and how its logits are stored."""

    recipe: SoftLabelling
    context: StageContext

    @cached_property
    def header(self) -> SoftLabelsHeader:
        """What the labels will be."""
        return header_of(self.recipe, self.context, teacher_key=self.context.inputs["teacher"].manifest.key)

    @cached_property
    def teacher(self) -> torch.nn.Module:
        """The teacher, on the device."""
        return self.context.model("teacher").eval()

    @cached_property
    def batches(self) -> Batches:
        """The samples in all views: read from the disk as they are needed, as each is seen once a view."""
        train = self.context.split("train", streamed=True)
        return Batches(train, self.recipe.augmentation, self.recipe.views, torch.float32, prepare=False)

    @cached_property
    def batch_size(self) -> int:
        """Samples in one forward pass: a block's share, always the same one where there is memory for it."""
        _, fitting = self.context.inference(self.teacher, self.batches.data, size_bytes=0)
        return min(fitting, self.header.block_rows)

    @property
    def made_with(self) -> str:
        """Return what the last bits of a logit depend on: labels that differ in it are not mixed."""
        device = self.context.runtime.device
        on_gpu = device.type == "cuda"
        what = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
        threads = os.environ.get("MKL_CBWR", "")  # Whether their number matters: see `worker.machine.libraries`.
        return f"torch {torch.__version__}, {what}, {threads}, batches of {self.batch_size}"

    @torch.inference_mode()
    def logits(self, block: int) -> Array:
        """The logits `[rows, classes]` of a block, float32, or float16 where they are stored so."""
        view, rows = self.header.rows_of(block)
        parts = []
        for start in range(rows.start, rows.stop, self.batch_size):
            stop = min(start + self.batch_size, rows.stop)
            words, share = progress_in_words(self.header, view, start)
            # May end the stage: before work that would be lost.
            self.context.report(words, stop - start, share)
            logits = logits_of_rows(self.teacher, self.batches.inputs(slice(start, stop), view)).float()
            # Rounded on the device, by the same rule as NumPy's, and half as much to be moved.
            parts.append((logits.half() if self._fits_in_half(logits) else logits).cpu())
        return torch.cat(parts).numpy()

    def _fits_in_half(self, logits: torch.Tensor) -> bool:
        encoding = self.header.encoding
        return encoding.dtype == "float16" and encoding.top_k is None and bool(logits.abs().max() <= LARGEST_SMALL)


def logits_of_rows(teacher: torch.nn.Module, inputs: Inputs) -> torch.Tensor:
    """The teacher's logits `[rows, classes]`, in eval mode, with the same bits with any number of threads.

    For up to 8 rows MKL splits each sum among its threads on some processors, in spite of the variables in
    `worker.machine.libraries` (AMD EPYC, torch 2.15): so the rows of a small batch are repeated.
    """
    rows = len(first(inputs))
    if rows < FEWEST_ROWS:
        inputs = each(inputs, lambda samples: torch.cat([samples] * math.ceil(FEWEST_ROWS / rows)))
    logits: torch.Tensor = through(teacher, inputs)
    return logits[:rows]


def run(recipe: SoftLabelling, context: StageContext) -> tuple[Path, SoftLabelsRecord]:
    """Write the teacher's logits on every view of every training sample, in the data set's order.

    Goes on with the blocks in the stage's folder. Other workers may help: the bytes are the same.

    Returns:
        The folder of the sealed labels, and their record.

    """
    labelling = Labelling(recipe, context)
    writer = SoftLabelsWriter.begin(context.folder, labelling.header, labelling.made_with, context.bucket)
    to_do = len(writer.missing)
    if to_do < writer.header.blocks:
        logger.info("goes on: %d of %d blocks are there", writer.header.blocks - to_do, writer.header.blocks)
    own = _label(labelling, writer)
    helped = max(0, to_do - own)
    if helped:
        logger.info("%d blocks labelled here, %d by helpers", own, helped)
    labels = writer.seal()
    return labels.folder, record_of_labels(labels, targets_of(context), helped)


def help_to_label(recipe: SoftLabelling, context: StageContext) -> int:
    """Label blocks of a stage that another worker runs, until none is left; return how many were labelled here."""
    labelling = Labelling(recipe, context)
    writer = SoftLabelsWriter.join(context.folder, labelling.header, labelling.made_with, context.bucket)
    if writer is None:
        return 0
    done, missing = 0, set(writer.missing)
    for block in context.crew.blocks(writer.header.blocks):
        if block in missing:
            try:
                writer.write(block, labelling.logits(block))
            except StoreUnavailable:  # Sealed by now, or a disk that the other worker will find full too.
                return done
            done += 1
    return done


def _label(labelling: Labelling, writer: SoftLabelsWriter) -> int:
    """Write what is missing, calling for help where it pays; return how many blocks this worker wrote."""
    crew, shards = labelling.context.crew, labelling.context.shards
    missing, own = writer.missing, 0
    to_do = set(missing)
    call = _Call(crew, shards, _read_bytes(labelling), TRIAL_SECONDS if shards == "auto" else 0.0)
    for block in crew.blocks(writer.header.blocks):
        if block not in to_do:
            continue
        call.consider(left=len(missing) - bisect_left(missing, block))
        started = time.monotonic()
        writer.write(block, labelling.logits(block))
        call.note(time.monotonic() - started)
        own += 1
    # What helpers are at, or have left: done here too, rather than waited for. The bytes are the same.
    while left := writer.missing:
        looked = time.monotonic()
        for block in left:
            writer.write(block, labelling.logits(block))
            own += 1
            if time.monotonic() - looked > LOOK_SECONDS:
                break
    return own


@dataclass
class _Call:
    """Decides when to call helpers, and how many."""

    crew: Crew
    shards: Literal["auto"] | int
    read_bytes: int
    #: Seconds of labelling after which it is to be considered next.
    due_seconds: float
    #: Seconds of each block so far, and of all of them.
    seconds: list[float] = field(default_factory=list)
    spent_seconds: float = 0.0
    called: int = 0

    def note(self, seconds: float) -> None:
        """Note how many seconds a block took."""
        self.seconds.append(seconds)
        self.spent_seconds += seconds

    def consider(self, left: int) -> None:
        """Call for as many helpers as pay for the blocks that are left, less those that were called."""
        if self.shards == 1 or self.spent_seconds < self.due_seconds:
            return
        self.due_seconds = self.spent_seconds + AGAIN_SECONDS
        # The first blocks are slow, as libraries prepare themselves; the last ones of views are short.
        work = left * (median(self.seconds) if self.seconds else 0.0)
        present = self.crew.present
        worthwhile = worthwhile_helpers(work, present, self.read_bytes) if self.shards == "auto" else self.shards - 1
        helpers = min(worthwhile, present, left - 1) - self.called
        if helpers > 0 and self.crew.call(helpers, work):
            self.called += helpers


def _read_bytes(labelling: Labelling) -> int:
    """Bytes that a helper reads: the teacher, and all samples at the most."""
    inputs = labelling.context.inputs
    return sum(entry.size_bytes for role in ("teacher", "dataset") for entry in inputs[role].manifest.files.values())
