"""Affine maps: images turned, sheared or moved."""

from __future__ import annotations

import torch


def nearest(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images through affine maps, each pixel the nearest one, 0 from outside.

    Args:
        images: `[batch, channels, height, width]`.
        maps: `[batch, 6]`, float32: a, b, c, d, e, f of `column = a x + b y + c` and `row = d x + e y + f`, where the
            pixel in column x and row y comes from.

    """
    rows, columns = _sources(images, maps)
    return _looked_up(images, rows.round().long(), columns.round().long())


def bilinear(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The same, float32, each pixel interpolated between four, with 0 outside."""
    images = images.float()
    rows, columns = _sources(images, maps)
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    top, left = top.long(), left.long()
    upper, lower = (
        _looked_up(images, row, left).mul_(1.0 - right).add_(_looked_up(images, row, left + 1).mul_(right))
        for row in (top, top + 1)
    )
    return upper.mul_(1.0 - down).add_(lower.mul_(down))


def about_the_middle(cosines: torch.Tensor, sines: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """The six numbers of maps that turn images counter-clockwise around their middle, from float64 `[batch]`."""
    y, x = (height - 1) / 2, (width - 1) / 2
    return cosines, -sines, x - cosines * x + sines * y, sines, cosines, y - sines * x - cosines * y


def _sources(images: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column that each pixel comes from, float32 `[batch, height, width]`."""
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    a, b, c, d, e, f = maps[:, :, None, None].unbind(1)
    return d * x + (e * y + f), a * x + (b * y + c)


def _looked_up(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Pixels at places `[batch, height, width]`, int64; 0 where there are none."""
    batch, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    found = images.flatten(2).gather(2, places.view(batch, 1, -1).expand(-1, channels, -1)).view(images.shape)
    return found * inside[:, None]
