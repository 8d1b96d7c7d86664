"""Rotation: images turned around their middle."""

from __future__ import annotations

import math

import torch

from distill_queue.worker.data.views.affine import about_the_middle, bilinear
from distill_queue.worker.data.views.generator import between, sin_cos


def rotate(images: torch.Tensor, numbers: torch.Tensor, most: float, _white: float) -> torch.Tensor:
    """Images turned by an angle of at most `most` degrees either way, by a random number `[1, batch]`; float32."""
    return rotated(images, between(-most, most, numbers[0]))


def rotated(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images turned counter-clockwise by angles, float64 `[batch]`, from -180 to 180; bilinear, 0 from outside."""
    sines, cosines = sin_cos(degrees * (math.pi / 180.0))
    return bilinear(images, torch.stack(about_the_middle(cosines, sines, *images.shape[2:]), 1).float())
