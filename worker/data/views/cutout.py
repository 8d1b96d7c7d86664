"""Cutout: a square of each image set to 0 (DeVries and Taylor 2017)."""

from __future__ import annotations

import torch


def cut_out(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, side: int) -> None:
    """Set a square around (row, column) `[batch]` of each image to 0, in place."""
    height, width = images.shape[2:]
    square = torch.arange(side, device=images.device) - side // 2
    # What would lie outside is pulled to the border, which the square reaches then: it is 0 anyway.
    ys = (rows[:, None] + square).clamp(0, height - 1)
    xs = (columns[:, None] + square).clamp(0, width - 1)
    samples = torch.arange(len(images), device=images.device)
    # Not a number, which torch would move to the device, and wait for it.
    images[samples[:, None, None], :, ys[:, :, None], xs[:, None, :]] = images.new_zeros(())
