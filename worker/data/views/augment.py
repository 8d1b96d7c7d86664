"""Views: what is done to images at random, each a pure function of (seed, view, sample)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.blend import SHARES, blend
from distill_queue.worker.data.views.cutout import cut_out
from distill_queue.worker.data.views.flip import flip
from distill_queue.worker.data.views.generator import below, uniform
from distill_queue.worker.data.views.shift import shift


@dataclass(frozen=True, slots=True)
class Augmented:
    """A batch of views, and what was blended into each."""

    #: `[batch, channels, height, width]`, float32 on the stored scale: not normalised yet.
    inputs: torch.Tensor
    #: `[batch]`, int64: rows of the samples that were blended in; without mixup, the samples' own rows.
    partners: torch.Tensor
    #: `[batch]`, float32: the partner's share in each image, from 0 to `mixup`, in steps of 1/256.
    shares: torch.Tensor


def augment(inputs: torch.Tensor, rows: torch.Tensor, view: int | torch.Tensor, spec: AugmentationSpec) -> Augmented:
    """Views of some samples: shifted, mirrored, a square cut out, and then another sample's such view blended in.

    A view depends on the seed, the view's number, the sample's row and (for its partner) on the number of all samples:
    on nothing else of the batch, and not on the device.

    Args:
        inputs: `[samples, channels, height, width]`, as stored: the whole split, as any sample may be a partner.
            With nothing but mixup, inputs of another shape will do.
        rows: `[batch]`, int64: the samples to take.
        view: the view's number, for all or as int64 `[batch]` for each.
        spec: what is done, and the seed.

    """
    others = partners(rows, view, len(inputs), spec)
    # A sixteenth of the time of inputs[rows] on bytes (torch 2.15, CPU).
    images = inputs.index_select(0, rows)
    return augmented(images, rows, view, spec, others, None if others is None else inputs.index_select(0, others.rows))


@dataclass(frozen=True, slots=True)
class Partners:
    """What is blended into a batch: rows int64 `[batch]`, and shares in 256ths, int64 `[batch]`."""

    rows: torch.Tensor
    shares: torch.Tensor

    def to(self, device: torch.device) -> Partners:
        """The same on a device."""
        return Partners(self.rows.to(device, non_blocking=True), self.shares.to(device, non_blocking=True))


def partners(rows: torch.Tensor, view: int | torch.Tensor, samples: int, spec: AugmentationSpec) -> Partners | None:
    """The samples, of all `samples`, that are blended into some rows `[batch]` in a view; None without mixup."""
    if not spec.mixup:
        return None
    partner, share = uniform(spec.seed, view, rows)[5:7]
    return Partners(below(samples, partner), below(int(spec.mixup * SHARES) + 1, share))


def augmented(
    images: torch.Tensor,
    rows: torch.Tensor,
    view: int | torch.Tensor,
    spec: AugmentationSpec,
    others: Partners | None,
    other_images: torch.Tensor | None,
) -> Augmented:
    """Views of samples that were read already: `images` of `rows`, and `other_images` of their partners."""
    if spec.changes_nothing:
        return Augmented(images.float(), rows, _no_shares(rows))
    images = _view(images, uniform(spec.seed, view, rows), spec)
    if others is None or other_images is None:
        return Augmented(images, rows, _no_shares(rows))
    blended_in = _view(other_images, uniform(spec.seed, view, others.rows), spec)
    return Augmented(blend(images, blended_in, others.shares), others.rows, others.shares.float() / SHARES)


def _no_shares(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(rows), device=rows.device)


def _view(images: torch.Tensor, numbers: torch.Tensor, spec: AugmentationSpec) -> torch.Tensor:
    """Views without mixup, float32 `[batch, channels, height, width]`."""
    down, right, mirrored, middle_row, middle_column = numbers[:5]
    if spec.shift:
        places = 2 * spec.shift + 1
        images = shift(images, below(places, down), below(places, right), spec.shift)
    if spec.flip:
        images = flip(images, below(2, mirrored))
    images = images.float()
    if spec.cutout:
        height, width = images.shape[2:]
        cut_out(images, below(height, middle_row), below(width, middle_column), spec.cutout)
    return images
