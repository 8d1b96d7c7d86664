"""RandAugment: operations chosen at random for each image, all of one strength (Cubuk et al. 2020).

The operations, their strengths and their order in the draw are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from distill_queue.shared.spec.augmentation import RandAugmentSpec
from distill_queue.worker.data.views.affine import about_the_middle, nearest
from distill_queue.worker.data.views.colour import brighten, change_contrast, saturate
from distill_queue.worker.data.views.generator import below, sin_cos
from distill_queue.worker.data.views.tone import auto_contrast, equalize, posterize, sharpen, solarize

#: The largest magnitude.
MOST = 30


@dataclass(frozen=True, slots=True)
class Strength:
    """How strong the operations are, at a magnitude as a share of the largest one, for images of a size."""

    share: float
    height: int
    width: int
    white: float


#: What an operation does to images, in place if it likes, with signs `[batch]` of -1 or 1.
Change = Callable[[torch.Tensor, torch.Tensor, Strength], torch.Tensor]


def rand_augment(images: torch.Tensor, numbers: torch.Tensor, asked: RandAugmentSpec, white: float) -> torch.Tensor:
    """Images after some operations, float32, by two random numbers for each: which it is, and its sign."""
    images = images.float()
    strength = Strength(asked.magnitude / MOST, images.shape[2], images.shape[3], white)
    for kind, sign in numbers.view(-1, 2, len(images))[: asked.operations]:
        images = operated(images, below(len(OPERATIONS), kind), 2 * below(2, sign) - 1, strength)
    return images


def operated(images: torch.Tensor, kinds: torch.Tensor, signs: torch.Tensor, strength: Strength) -> torch.Tensor:
    """Images after one operation each, by its place in OPERATIONS; in place. Kinds and signs are int64 `[batch]`."""
    changed = changed_by_rows if images.device.type == "cpu" else changed_by_masks
    for kind, change in enumerate(OPERATIONS.values()):
        if change is not None:
            images = changed(images, kinds == kind, signs.float(), change, strength)
    return images


def changed_by_rows(
    images: torch.Tensor, chosen: torch.Tensor, signs: torch.Tensor, change: Change, strength: Strength
) -> torch.Tensor:
    """Images of which the chosen ones `[batch]` are changed, and no others are computed."""
    if len(rows := chosen.nonzero().flatten()):
        images.index_copy_(0, rows, change(images.index_select(0, rows), signs.index_select(0, rows), strength))
    return images


def changed_by_masks(
    images: torch.Tensor, chosen: torch.Tensor, signs: torch.Tensor, change: Change, strength: Strength
) -> torch.Tensor:
    """The same where only the device knows how many are chosen, which cannot be recorded in a CUDA graph."""
    return torch.where(chosen.view(-1, 1, 1, 1), change(images.clone(), signs, strength), images)


def _sheared(images: torch.Tensor, signs: torch.Tensor, strength: Strength, *, across: bool) -> torch.Tensor:
    """Images sheared about the corner of their first pixel, by up to 0.3 pixels a row or column."""
    slope = signs * (0.3 * strength.share)
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    half = slope * 0.5
    numbers = (one, slope, half, zero, one, zero) if across else (one, zero, zero, slope, one, half)
    return nearest(images, torch.stack(numbers, 1))


def _moved(images: torch.Tensor, signs: torch.Tensor, strength: Strength, *, across: bool) -> torch.Tensor:
    """Images moved by whole pixels, by up to 150 of 331."""
    pixels = int(150.0 / 331.0 * (strength.width if across else strength.height) * strength.share)
    zero, one, distance = torch.zeros_like(signs), torch.ones_like(signs), signs * -pixels
    numbers = (one, zero, distance, zero, one, zero) if across else (one, zero, zero, zero, one, distance)
    return nearest(images, torch.stack(numbers, 1))


def _turned(images: torch.Tensor, signs: torch.Tensor, strength: Strength) -> torch.Tensor:
    """Images turned around their middle by up to 30 degrees."""
    sines, cosines = sin_cos(signs.double() * (math.radians(30.0) * strength.share))
    return nearest(images, torch.stack(about_the_middle(cosines, sines, *images.shape[2:]), 1).float())


def _factors(signs: torch.Tensor, strength: Strength) -> torch.Tensor:
    """What brightness, colour, contrast and sharpness are multiplied by: 0.1 to 1.9."""
    return 1.0 + signs * (0.9 * strength.share)


#: The operations, in the order of the draw; None leaves an image as it is.
OPERATIONS: dict[str, Change | None] = {
    "Identity": None,
    "ShearX": lambda images, signs, strength: _sheared(images, signs, strength, across=True),
    "ShearY": lambda images, signs, strength: _sheared(images, signs, strength, across=False),
    "TranslateX": lambda images, signs, strength: _moved(images, signs, strength, across=True),
    "TranslateY": lambda images, signs, strength: _moved(images, signs, strength, across=False),
    "Rotate": _turned,
    "Brightness": lambda images, signs, strength: brighten(images, _factors(signs, strength), strength.white),
    "Color": lambda images, signs, strength: saturate(images, _factors(signs, strength), strength.white),
    "Contrast": lambda images, signs, strength: change_contrast(images, _factors(signs, strength), strength.white),
    "Sharpness": lambda images, signs, strength: sharpen(images, _factors(signs, strength), strength.white),
    "Posterize": lambda images, _, strength: posterize(images, 8 - round(4 * strength.share), strength.white),
    "Solarize": lambda images, _, strength: solarize(images, (1.0 - strength.share) * strength.white, strength.white),
    "AutoContrast": lambda images, _, strength: auto_contrast(images, strength.white),
    "Equalize": lambda images, _, strength: equalize(images, strength.white),
}
