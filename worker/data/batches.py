"""Batches: rows of a split as models take them, in the view that they are to see."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.augmentation import AugmentationSpec, SampleFacts
from distill_queue.worker.data.online_teacher import OnlineTeacher
from distill_queue.worker.data.split import Split, pieces, take
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.data.views import augment
from distill_queue.worker.machine.inputs import Inputs, each

#: Batches that are read before they are needed.
READ_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """What each member of a stack sees in one step."""

    #: `[members, batch, ...]`, normalised.
    inputs: Inputs
    #: `[members, batch]`, int64; -1 where a sample has no label.
    targets: torch.Tensor
    #: `[members, batch, classes]`; none where nothing is distilled.
    teacher_logits: torch.Tensor | None = None
    #: Of the samples that were blended in, with their shares, both `[members, batch]`; none without mixup or cutmix.
    partner_targets: torch.Tensor | None = None
    shares: torch.Tensor | None = None

    @property
    def parts(self) -> tuple[Inputs, torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """All of them, as they are given."""
        return self.inputs, self.targets, self.teacher_logits, self.partner_targets, self.shares


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is read for a batch, `[members * batch, ...]`, before anything is computed."""

    inputs: torch.Tensor
    #: The soft labels' columns, as they are stored.
    teacher_logits: tuple[torch.Tensor, ...] | None
    #: Rows of what is blended in.
    partners: torch.Tensor | None
    partner_inputs: torch.Tensor | None


class Batches:
    """A split, the views of it, and the teacher's logits on these."""

    def __init__(
        self,
        data: Split,
        augmentation: AugmentationSpec,
        views: int | None,
        dtype: torch.dtype,
        teacher_logits: TeacherLogits | OnlineTeacher | None = None,
        *,
        prepare: bool = True,
        prepared: torch.Tensor | None = None,
    ) -> None:
        """Take a split and how to see it.

        Args:
            data: the split; if it is streamed, batches are read ahead of their use.
            augmentation: what makes a view.
            views: how many there are, or None where every epoch has one of its own.
            dtype: of the model's inputs.
            teacher_logits: of all samples in all views, or what answers for the samples of a batch.
            prepare: normalise all samples at once, for more than one look at each.
            prepared: all samples as `prepare` makes them, where an earlier stage has; the split need not be read then.

        Raises:
            InvalidSpec: the samples cannot be seen so.

        """
        _require_images(data, augmentation)
        self.data = data
        self._augmentation = augmentation
        self._views = views
        self._dtype = dtype
        self._online = teacher_logits if isinstance(teacher_logits, OnlineTeacher) else None
        self._teacher_logits = teacher_logits if isinstance(teacher_logits, TeacherLogits) else None
        unread = isinstance(data.inputs, np.ndarray) and prepared is None
        self._streams = unread or (self._teacher_logits is not None and self._teacher_logits.streamed)
        #: Where rows are to be.
        self.home = torch.device("cpu") if self._streams else data.device
        prepare = prepare and not self._streams and not data.fields and augmentation.changes_nothing
        self.prepared = prepared if prepared is not None or not prepare else _prepared(data, dtype)

    @property
    def lie_on_the_device(self) -> bool:
        """Whether a batch is made of rows on the device alone, so that this can be recorded with a step."""
        return not self._streams

    def view(self, epoch: int) -> int:
        """The number of the view that is seen in an epoch."""
        return epoch if self._views is None else epoch % self._views

    def inputs(self, rows: slice, view: int) -> Inputs:
        """The inputs of successive rows, without a batch's other parts."""
        batch = self(torch.arange(rows.start, rows.stop, device=self.home)[None], view)
        return each(batch.inputs, lambda samples: samples[0])

    def __call__(self, rows: torch.Tensor, view: int | torch.Tensor) -> Batch:
        """The batch of some rows `[members, batch]`, in a view, which may be a tensor beside rows on the device."""
        return self._finish(rows, view, self._take(rows, view))

    def each(self, all_rows: Sequence[torch.Tensor], view: int) -> Generator[Batch]:
        """The batch of each of some rows, in order; what is streamed is read ahead by a thread."""
        if not self._streams:
            yield from (self(rows, view) for rows in all_rows)
            return
        thread = ThreadPoolExecutor(1, "read-ahead")
        try:
            ahead: deque[Future[_Taken]] = deque()
            for index, rows in enumerate(all_rows):
                for later in all_rows[index + len(ahead) : index + READ_AHEAD]:
                    ahead.append(thread.submit(self._take, later, view))
                yield self._finish(rows, view, ahead.popleft().result())
        finally:
            thread.shutdown(cancel_futures=True)

    def _take(self, rows: torch.Tensor, view: int | torch.Tensor) -> _Taken:
        flat = rows.flatten()
        source = self.data.inputs if self.prepared is None else self.prepared
        partners = augment.partners(flat, view, len(self.data), self._augmentation)
        logits = self._teacher_logits
        return _Taken(
            take(source, flat, self.data.device),
            None if logits is None else logits.take(flat, view, self.data.device),
            partners,
            None if partners is None else take(source, partners, self.data.device),
        )

    def _finish(self, rows: torch.Tensor, view: int | torch.Tensor, taken: _Taken) -> Batch:
        """A batch from what was read for it."""
        flat = rows.flatten().to(self.data.device, non_blocking=True)
        targets = self.data.targets.index_select(0, flat).view_as(rows)
        if self._augmentation.changes_nothing:
            inputs = taken.inputs if self.prepared is not None else self.data.as_inputs(taken.inputs)
            flat_inputs = each(inputs, self._typed)
            return Batch(_members(flat_inputs, rows.shape), targets, self._answers(taken, flat_inputs, rows.shape))
        partners = taken.partners if taken.partners is None else taken.partners.to(self.data.device, non_blocking=True)
        seen = augment.augmented(
            taken.inputs, flat, view, self._augmentation, partners, taken.partner_inputs, self.data.white
        )
        normalised = self.data.normalise(seen.inputs)
        views, logits = _members(normalised, rows.shape), self._answers(taken, normalised, rows.shape)
        if not self._augmentation.blends:
            return Batch(views, targets, logits)
        partner_targets = self.data.targets[seen.partners].view_as(rows)
        return Batch(views, targets, logits, partner_targets, seen.shares.view_as(rows))

    def _answers(self, taken: _Taken, inputs: Inputs, shape: torch.Size) -> torch.Tensor | None:
        """The teacher's logits `[members, batch, classes]`, from what was read or from the inputs; None without one."""
        if self._online is not None:
            return self._online(inputs).unflatten(0, shape)
        if self._teacher_logits is None or taken.teacher_logits is None:
            return None
        return self._teacher_logits.logits(taken.teacher_logits).unflatten(0, shape)

    def _typed(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples in the type of the model's inputs."""
        return samples.to(self._dtype) if samples.is_floating_point() else samples


def _members(inputs: Inputs, shape: torch.Size) -> Inputs:
    """Samples `[members * batch, ...]` as `[members, batch, ...]`."""
    return each(inputs, lambda samples: samples.unflatten(0, shape))


def batch_sizes(samples: int, batch_size: int, *, joined: bool = False) -> list[int]:
    """Samples of each batch of an epoch.

    Args:
        samples: all of them.
        batch_size: samples of each batch but the last one, which has what is left.
        joined: add a last batch of one sample to the one before it, for models that cannot be trained on one sample.

    """
    sizes = [batch_size] * (samples // batch_size)
    left = samples % batch_size
    if left == 1 and joined and sizes:
        return [*sizes[:-1], batch_size + 1]
    return [*sizes, left] if left else sizes


def _require_images(data: Split, augmentation: AugmentationSpec) -> None:
    overstepped = None if not augmentation.needs_white or data.reaches_from_black_to_white else data.white
    facts = SampleFacts(tuple(data.inputs.shape[1:]), tuple(data.fields), data.tokens, overstepped)
    if found := augmentation.misfit(facts):
        part, words = found
        raise InvalidSpec(f"augmentation{part and f'.{part}'}: {words}")


def size_bytes(data: Split, augmentation: AugmentationSpec, dtype: torch.dtype) -> int:
    """Bytes of a split that lies whole in memory, with what `Batches` prepares of it."""
    item = torch.int64.itemsize if data.tokens else dtype.itemsize
    prepared = math.prod(data.inputs.shape) * item if augmentation.changes_nothing and not data.fields else 0
    return data.inputs.nbytes + prepared


def _prepared(data: Split, dtype: torch.dtype) -> torch.Tensor:
    """All inputs normalised, once, in the type of the matrix products, which would round to it in every step.

    Piece by piece: the whole in float32 would take longer to get from the system than to compute.
    """
    if data.tokens:
        return data.read(slice(None)).long()
    prepared = torch.empty(tuple(data.inputs.shape), dtype=dtype, device=data.device)
    for rows in pieces(data.inputs):
        prepared[rows] = data.normalise(data.read(rows).float())
    return prepared
