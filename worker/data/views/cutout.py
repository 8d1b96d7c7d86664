"""Cutout: a square of each image set to 0 (DeVries and Taylor 2017)."""

from __future__ import annotations

import torch

from distill_queue.worker.data.views.generator import below


def cut_out(images: torch.Tensor, numbers: torch.Tensor, side: int, _white: float) -> torch.Tensor:
    """Images with a square set to 0, float32, in place; its middle is at two random numbers `[2, batch]`."""
    images = images.float()
    height, width = images.shape[2:]
    square = torch.arange(side, device=images.device) - side // 2
    # What would lie outside is pulled to the border, which the square reaches then: it is 0 anyway.
    ys = (below(height, numbers[0])[:, None] + square).clamp(0, height - 1)
    xs = (below(width, numbers[1])[:, None] + square).clamp(0, width - 1)
    samples = torch.arange(len(images), device=images.device)
    # Not a number, which torch would move to the device, and wait for it.
    images[samples[:, None, None], :, ys[:, :, None], xs[:, None, :]] = images.new_zeros(())
    return images
