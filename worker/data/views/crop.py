"""Crop: a random rectangle of each image, stretched to the image's size."""

from __future__ import annotations

import math

import torch

from distill_queue.shared.spec.augmentation import CropSpec
from distill_queue.worker.data.views.generator import below, between, exp

#: Rectangles that are drawn until one fits into the image, as in torchvision's RandomResizedCrop.
ATTEMPTS = 10
#: Random numbers that a crop takes: area and ratio of each attempt, and the place.
NUMBERS = 2 * ATTEMPTS + 2


def crop(images: torch.Tensor, numbers: torch.Tensor, asked: CropSpec, _white: float) -> torch.Tensor:
    """Random resized crops, float32, by random numbers `[NUMBERS, batch]`."""
    return stretched(images, *rectangles(numbers, images.shape[2], images.shape[3], asked))


def rectangles(numbers: torch.Tensor, height: int, width: int, asked: CropSpec) -> tuple[torch.Tensor, ...]:
    """Top, left, height and width of a rectangle in each image, int64 `[batch]` each.

    The area is spread evenly, the ratio evenly by its logarithm. The first of some attempts that fits is taken; if none
    does, a rectangle in the middle, as large as the image and the limits of the ratio allow.
    """
    (smallest, largest), (low, high) = asked.area, asked.ratio
    area = between(smallest, largest, numbers[:ATTEMPTS]) * (height * width)
    ratio = exp(between(math.log(low), math.log(high), numbers[ATTEMPTS : 2 * ATTEMPTS]))
    heights, widths = (sides.sqrt().round().long() for sides in (area / ratio, area * ratio))
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = fits.int().argmax(0, keepdim=True)
    in_the_middle = (min(height, max(1, round(width / low))), min(width, max(1, round(height * high))))
    found = fits.any(0)
    tall, wide = (
        torch.where(found, sides.gather(0, first)[0], side)
        for sides, side in zip((heights, widths), in_the_middle, strict=True)
    )
    top, left = height - tall, width - wide
    top, left = (
        torch.where(found, below(room + 1, number), room // 2)
        for room, number in zip((top, left), numbers[2 * ATTEMPTS :], strict=True)
    )
    return top, left, tall, wide


def stretched(
    images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, heights: torch.Tensor, widths: torch.Tensor
) -> torch.Tensor:
    """Rectangles of images `[batch, channels, height, width]`, bilinear, stretched to the images' size; float32.

    A rectangle is never larger than the image, so that each pixel lies between two of a row and two of a column: an
    antialiasing filter would take no more. A matrix product with the weights would round as the library that computes
    it likes, differently for one image and for many.
    """
    # Whole rows are copied, twenty times as fast as pixels are looked up: columns become rows before, while pixels are
    # bytes, and again after.
    across = _lines(images.transpose(2, 3), left, widths)
    return _lines(across.transpose(2, 3), top, heights)


def _lines(images: torch.Tensor, start: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Lines `start` to `start + length` of each image, stretched to as many as there are in all."""
    batch, channels, count, size = images.shape
    # In half lines, whole numbers: the middle of each new line, in the old ones, less half a line.
    twice = (2 * torch.arange(count, device=images.device) + 1) * lengths[:, None] - count
    twice = twice.clamp(min=0)
    before = twice // (2 * count)
    after = torch.minimum(before + 1, lengths[:, None] - 1)
    weights = ((twice % (2 * count)).double() * (1.0 / (2 * count))).float()[:, None, :, None]
    lines = images.reshape(-1, size)
    planes = (torch.arange(batch * channels, device=images.device) * count).view(batch, channels, 1)
    first, second = (
        lines.index_select(0, (planes + (start[:, None] + place)[:, None]).flatten()).view(images.shape).float()
        for place in (before, after)
    )
    return first.mul_(1.0 - weights).add_(second.mul_(weights))
