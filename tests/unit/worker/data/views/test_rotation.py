"""Rotations against torchvision's."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from distill_queue.worker.data.views.generator import draw, sin_cos, states
from distill_queue.worker.data.views.rotation import rotate, rotated


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 20, 27, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("degrees", [-180.0, -75.5, -30.0, 1.0, 90.0, 133.0])
def test_a_rotation_is_torchvisions_bilinear_one(degrees: float) -> None:
    found = rotated(images(), torch.full((4,), degrees, dtype=torch.float64))

    expected = functional.rotate(images(), degrees, InterpolationMode.BILINEAR)
    # Where pixels come from is rounded in float32, to a few millionths of the image's width.
    torch.testing.assert_close(found, expected, rtol=0.0, atol=2e-5)


def test_no_rotation_leaves_the_image_to_the_bit() -> None:
    assert torch.equal(rotated(images(), torch.zeros(4, dtype=torch.float64)), images())


def test_angles_are_spread_evenly_up_to_the_largest_one() -> None:
    # A lit pixel right of the middle tells the angle.
    image = torch.zeros(1, 1, 61, 61)
    image[..., 30, 54] = 1.0
    count = 200
    numbers = draw(states(0, 0, torch.arange(count)), range(1))

    found = rotate(image.expand(count, -1, -1, -1), numbers, 40.0, 1.0).flatten(1)

    places = torch.arange(61.0) - 30
    weights = found / found.sum(1, keepdim=True)
    up = -(weights * places.repeat_interleave(61)).sum(1)
    right = (weights * places.repeat(61)).sum(1)
    angles = torch.rad2deg(torch.atan2(up, right))
    assert angles.abs().max() <= 41.0
    assert angles.mean().abs() < 6.0
    assert angles.std().item() == pytest.approx(80.0 / 12**0.5, rel=0.1)


def test_sine_and_cosine_are_pythons_and_the_same_alone_and_among_many() -> None:
    angles = torch.linspace(-math.pi, math.pi, 1_001, dtype=torch.float64)

    found = torch.stack(sin_cos(angles))

    expected = [[function(angle) for angle in angles.tolist()] for function in (math.sin, math.cos)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0.0, atol=1e-10)
    assert torch.equal(found, torch.cat([torch.stack(sin_cos(angle)) for angle in angles.split(1)], 1))
