"""Batches: rows of a split as models take them, in the view that they are to see."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from shared.spec import AugmentationSpec
from worker.augment import augment
from worker.data import Split

#: Samples that are normalised in one go.
PIECE = 4_096


@dataclass(frozen=True, slots=True)
class Batch:
    """What each member of a stack sees in one step; `rows` `[members, batch]` are places in the split."""

    rows: torch.Tensor
    #: `[members, batch, ...]`, normalised.
    inputs: torch.Tensor
    #: `[members, batch]`, int64; -1 where a sample has no label.
    targets: torch.Tensor
    #: Of the samples that were blended in, with their shares, both `[members, batch]`; none without mixup.
    partner_targets: torch.Tensor | None = None
    shares: torch.Tensor | None = None


class Batches:
    """A split, and the views of it."""

    def __init__(self, data: Split, augmentation: AugmentationSpec, views: int | None, dtype: torch.dtype) -> None:
        """Take the number of views, or None where every epoch has one of its own."""
        self.data = data
        self._augmentation = augmentation
        self._views = views
        self._inputs = _prepared(data, dtype) if augmentation.changes_nothing else None

    def view(self, epoch: int) -> int:
        """The number of the view that is seen in an epoch."""
        return epoch if self._views is None else epoch % self._views

    def inputs(self, rows: slice, view: int) -> torch.Tensor:
        """The inputs of successive rows, without a batch's other parts."""
        return self(torch.arange(rows.start, rows.stop, device=self.data.targets.device)[None], view).inputs[0]

    def __call__(self, rows: torch.Tensor, view: int) -> Batch:
        """The batch of some rows `[members, batch]`."""
        flat = rows.flatten()
        targets = self.data.targets.index_select(0, flat).view_as(rows)
        if self._inputs is not None:
            inputs = self._inputs.index_select(0, flat)
            return Batch(rows, inputs.unflatten(0, rows.shape), targets)
        augmented = augment(self.data.inputs, flat, view, self._augmentation)
        inputs = self.data.normalise(augmented.inputs).unflatten(0, rows.shape)
        if not self._augmentation.mixup:
            return Batch(rows, inputs, targets)
        partner_targets = self.data.targets[augmented.partners].view_as(rows)
        return Batch(rows, inputs, targets, partner_targets, augmented.shares.view_as(rows))


def _prepared(data: Split, dtype: torch.dtype) -> torch.Tensor:
    """All inputs normalised, once, in the type of the matrix products, which would round to it in every step.

    Piece by piece: the whole in float32 would take longer to get from the system than to compute.
    """
    if data.tokens:
        return data.normalised(slice(None))
    prepared = torch.empty(data.inputs.shape, dtype=dtype, device=data.inputs.device)
    for start in range(0, len(data), PIECE):
        rows = slice(start, start + PIECE)
        prepared[rows] = data.normalised(rows)
    return prepared
