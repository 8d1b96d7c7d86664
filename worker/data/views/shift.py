"""Shift: images moved up, down, left or right."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.worker.data.views.generator import below


def shift(images: torch.Tensor, numbers: torch.Tensor, most: int, _white: float) -> torch.Tensor:
    """Images shifted by at most `most` pixels, by two random numbers `[2, batch]`: down and right."""
    top, left = below(2 * most + 1, numbers)
    return windows(images, top, left, most)


def windows(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, most: int) -> torch.Tensor:
    """Windows into images with `most` pixels of 0 around them; their corners are at `top` and `left` `[batch]`."""
    batch, channels, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    # Lay all images end to end: each row of a window is a run of pixels that starts somewhere. To copy runs takes an
    # eighth of the time of looking up pixels (15 µs for 256 images of 28 x 28).
    runs = padded.flatten().unfold(0, width, 1)
    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * padded.shape[2]
    lines = planes + torch.arange(height, device=images.device) + top.view(-1, 1, 1)
    starts = lines * padded.shape[3] + left.view(-1, 1, 1)
    return runs.index_select(0, starts.flatten()).view(images.shape)
