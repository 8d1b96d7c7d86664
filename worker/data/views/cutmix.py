"""CutMix: a rectangle of another sample put into each image (Yun et al. 2019)."""

from __future__ import annotations

import torch

from distill_queue.worker.data.views.generator import below, between


def cut_mix(
    images: torch.Tensor, others: torch.Tensor, numbers: torch.Tensor, most: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a rectangle of their partners', and the rectangles' shares of the area `[batch]`, float32.

    The area is a random number up to `most`, and the middle two more: `[3, batch]`. The rectangle has the image's
    shape; what of it lies outside of the image is cut off, and is not counted in the share.
    """
    height, width = images.shape[2:]
    half = between(0.0, most, numbers[0]).sqrt() * 0.5
    inside_rows, rows = _span(height, half, numbers[1])
    inside_columns, columns = _span(width, half, numbers[2])
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    # A division of tensors: CUDA would multiply by a number's reciprocal.
    area = torch.full_like(rows, height * width)
    return torch.where(inside, others, images), (rows * columns).float() / area.float()


def _span(length: int, half: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of `length` places a side covers `[batch, length]`, and how many they are `[batch]`."""
    middle, reach = below(length, number), (half * length).long()
    start, stop = (middle - reach).clamp(min=0), (middle + reach).clamp(max=length)
    places = torch.arange(length, device=number.device)
    return (places >= start[:, None]) & (places < stop[:, None]), stop - start
