"""Tone: operations of RandAugment on the values of pixels; images are float32 `[batch, channels, height, width]`."""

from __future__ import annotations

import torch

from distill_queue.worker.data.views.colour import blend


def sharpen(images: torch.Tensor, factors: torch.Tensor, white: float) -> torch.Tensor:
    """Images with their distance from a smoothed image multiplied by factors `[batch]`; the border stays, in place.

    The smoothed image weighs a pixel five times, and each of the eight around it once.
    """
    if min(images.shape[2:]) <= 2:
        return images
    inside = images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    smooth = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth.add_(inside * 4.0).mul_(1.0 / 13.0)
    blend(inside, smooth, factors, white)
    return images.clamp_(0.0, white)


def posterize(images: torch.Tensor, bits: int, white: float) -> torch.Tensor:
    """Images with 2 ** `bits` levels: what is between two becomes the lower one; in place."""
    levels = 2**bits
    # Of bytes, the upper bits are kept.
    step = (256.0 if white == 255.0 else white) / levels
    return images.mul_(1.0 / step).floor_().clamp_(0.0, levels - 1.0).mul_(step)


def solarize(images: torch.Tensor, threshold: float, white: float) -> torch.Tensor:
    """Images with pixels from `threshold` on inverted."""
    return torch.where(images >= threshold, white - images, images)


def auto_contrast(images: torch.Tensor, white: float) -> torch.Tensor:
    """Images, each channel stretched from black to white; a channel of one value stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = low == high
    low, span = low.masked_fill(flat, 0.0), ((high - low) * (1.0 / white)).masked_fill(flat, 1.0)
    return images.sub_(low).div_(span).clamp_(0.0, white)


def equalize(images: torch.Tensor, white: float) -> torch.Tensor:
    """Images, each channel's 256 values spread such that they are about equally frequent, as Pillow does it.

    A channel in which the values below its largest one are fewer than 255 pixels stays as it is.
    """
    pixels = (images * (255.0 / white)).round_().clamp_(0.0, 255.0).long().flatten(2)
    counts = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, pixels, torch.ones_like(pixels))
    sums = counts.cumsum(2)
    step = (pixels.shape[2] - counts.gather(2, sums.argmax(2, keepdim=True))) // 255
    table = ((sums[..., :-1] + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = torch.cat((torch.zeros_like(table[..., :1]), table), 2).float() * (white / 255.0)
    equalized = table.gather(2, pixels).view(images.shape)
    return torch.where((step > 0)[..., None], equalized, images)
