"""Flip: images with left and right exchanged."""

from __future__ import annotations

import torch

from distill_queue.worker.data.views.generator import below


def flip(images: torch.Tensor, numbers: torch.Tensor, _asked: bool, _white: float) -> torch.Tensor:
    """Images, half of them mirrored left to right, by a random number `[1, batch]`."""
    batch = len(images)
    both = torch.cat((images, images.flip(3)))
    return both.index_select(0, torch.arange(batch, device=images.device) + below(2, numbers[0]) * batch)
