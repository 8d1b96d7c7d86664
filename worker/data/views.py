"""Views: what is done to images at random, each a pure function of (seed, view, sample)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from distill_queue.shared.spec.augmentation import AugmentationSpec

#: Random numbers that a sample has in a view: shift down and right, flip, middle of the square (row, column), partner,
#: share. A new one goes to the end, so that the others stay what they are.
DRAWS = 7
#: A partner's share is a whole number of these, so that blended bytes are exact in float32.
SHARES = 256

#: Raised by one when the same random numbers come to mean other pixels.
VERSION = 1
#: Samples whose random numbers are part of a fingerprint.
FINGERPRINT_SAMPLES = 64

#: SplitMix64's step and the two factors of its mixing function, as signed 64-bit numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTOR_1 = 0xBF58476D1CE4E5B9 - 2**64
_FACTOR_2 = 0x94D049BB133111EB - 2**64


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
    return Partners(_below(samples, partner), _below(int(spec.mixup * SHARES) + 1, share))


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
    return Augmented(_blend(images, blended_in, others.shares), others.rows, others.shares.float() / SHARES)


def uniform(seed: int, view: int | torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Random numbers from 0 to 2³² - 1, int64 `[DRAWS, batch]`: the same on any device and in any batch.

    Each (seed, view, sample) has a SplitMix64 stream of its own, whose state comes from one step for each of the three
    (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators, section 4; the mixing function is
    Stafford's variant 13 of MurmurHash3's). A number is the upper half of one of the stream's words.

    Args:
        seed: from 0 to 2³² - 1.
        view: the view's number, for all or as int64 `[batch]` for each.
        samples: `[batch]`, int64.

    """
    state = _mix(torch.tensor(seed) + _STEP)
    state = _mix(state + view + _STEP)
    state = _mix(state + samples + _STEP)
    steps = torch.arange(1, DRAWS + 1, device=samples.device)[:, None] * _STEP
    return _shift_right(_mix(state + steps), 32)


def fingerprint(spec: AugmentationSpec, views: int) -> str:
    """A hash of what is done, and of random numbers that it is done by; nothing where samples are seen as they are.

    Views with the same fingerprint have the same pixels: it tells views of another version apart.
    """
    if spec.changes_nothing:
        return ""
    numbers = torch.stack([uniform(spec.seed, view, torch.arange(FINGERPRINT_SAMPLES)) for view in (0, views - 1)])
    done = json.dumps([VERSION, spec.model_dump(mode="json"), views], sort_keys=True)
    return hashlib.sha256(done.encode() + numbers.numpy().tobytes()).hexdigest()[:32]


def header_facts(spec: AugmentationSpec, views: int) -> dict[str, Any]:
    """What the header of soft labels says of the labelled views: no augmentation if samples are not changed."""
    augmentation = {} if spec.changes_nothing else spec.model_dump(mode="json")
    return {"augmentation": augmentation, "augmentation_fingerprint": fingerprint(spec, views)}


def _mix(words: torch.Tensor) -> torch.Tensor:
    """Each of some 64-bit words turned into another, int64 that wraps: a bijection in which every bit touches all."""
    words = (words ^ _shift_right(words, 30)) * _FACTOR_1
    words = (words ^ _shift_right(words, 27)) * _FACTOR_2
    return words ^ _shift_right(words, 31)


def _shift_right(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Words shifted as if they had no sign: torch's own `>>` fills up with the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _below(limit: int, numbers: torch.Tensor) -> torch.Tensor:
    """Numbers from `uniform` brought to 0 … limit - 1, uneven by less than limit / 2³²."""
    return numbers * limit >> 32


def _no_shares(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(rows), device=rows.device)


def _view(images: torch.Tensor, numbers: torch.Tensor, spec: AugmentationSpec) -> torch.Tensor:
    """Views without mixup, float32 `[batch, channels, height, width]`."""
    down, right, mirrored, middle_row, middle_column = numbers[:5]
    if spec.shift:
        places = 2 * spec.shift + 1
        images = _shift(images, _below(places, down), _below(places, right), spec.shift)
    if spec.flip:
        images = _flip(images, _below(2, mirrored))
    images = images.float()
    if spec.cutout:
        height, width = images.shape[2:]
        _cut_out(images, _below(height, middle_row), _below(width, middle_column), spec.cutout)
    return images


def _shift(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, shift: int) -> torch.Tensor:
    """Windows into images with `shift` pixels of 0 around them; their corners are at `top` and `left` `[batch]`."""
    batch, channels, height, width = images.shape
    padded = functional.pad(images, (shift, shift, shift, shift))
    # Lay all images end to end: each row of a window is a run of pixels that starts somewhere. To copy runs takes an
    # eighth of the time of looking up pixels (15 µs for 256 images of 28 x 28).
    runs = padded.flatten().unfold(0, width, 1)
    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * padded.shape[2]
    lines = planes + torch.arange(height, device=images.device) + top.view(-1, 1, 1)
    starts = lines * padded.shape[3] + left.view(-1, 1, 1)
    return runs.index_select(0, starts.flatten()).view(images.shape)


def _flip(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Images, left and right exchanged where `mirrored` `[batch]` is 1 and not 0."""
    batch = len(images)
    both = torch.cat((images, images.flip(3)))
    return both.index_select(0, torch.arange(batch, device=images.device) + mirrored * batch)


def _cut_out(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, side: int) -> None:
    """Set a square around (row, column) `[batch]` of each image to 0, in place."""
    height, width = images.shape[2:]
    square = torch.arange(side, device=images.device) - side // 2
    # What would lie outside is pulled to the border, which the square reaches then: it is 0 anyway.
    ys = (rows[:, None] + square).clamp(0, height - 1)
    xs = (columns[:, None] + square).clamp(0, width - 1)
    samples = torch.arange(len(images), device=images.device)
    # Not a number, which torch would move to the device, and wait for it.
    images[samples[:, None, None], :, ys[:, :, None], xs[:, None, :]] = images.new_zeros(())


def _blend(images: torch.Tensor, others: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """`((256 - share) * image + share * other) / 256`, in place of both, with shares int64 `[batch]`.

    Integers up to 2¹⁶ stay below 2²⁴ on the way, where float32 is exact: no rounding, thus no difference between
    devices, nor with fused multiply-add. Fractions are rounded after each operation, by IEEE 754, alike everywhere.
    """
    weights = shares.float().view(-1, *[1] * (images.ndim - 1))
    return images.mul_(SHARES - weights).add_(others.mul_(weights)).div_(SHARES)
