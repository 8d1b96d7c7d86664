"""Crops against torchvision's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from distill_queue.shared.spec.augmentation import CropSpec
from distill_queue.worker.data.views.crop import NUMBERS, rectangles, stretched
from distill_queue.worker.data.views.generator import draw, exp, states
from tests.properties import examples

HEIGHT, WIDTH = 24, 32


def images(count: int = 3) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), generator=random, dtype=torch.uint8)


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return draw(states(seed, 0, torch.arange(count)), range(NUMBERS))


def same(values: tuple[int, ...], count: int) -> list[torch.Tensor]:
    return [torch.full((count,), value) for value in values]


@examples(40)
@given(data=st.data())
def test_a_crop_is_torchvisions_bilinear_one_with_antialias(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, HEIGHT)), data.draw(st.integers(1, WIDTH))
    place = (data.draw(st.integers(0, HEIGHT - height)), data.draw(st.integers(0, WIDTH - width)), height, width)
    stored = images()

    found = stretched(stored, *same(place, 3))

    expected = functional.resized_crop(stored.float(), *place, [HEIGHT, WIDTH], antialias=True)
    # Of 255: float32's rounding, after other steps.
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-3)
    # torchvision rounds bytes after each direction.
    bytes_expected = functional.resized_crop(stored, *place, [HEIGHT, WIDTH], antialias=True)
    torch.testing.assert_close(found, bytes_expected.float(), rtol=0.0, atol=1.01)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_whole_image_is_the_image_to_the_bit(dtype: torch.dtype) -> None:
    stored = images().to(dtype) / 3 if dtype.is_floating_point else images()

    assert torch.equal(stretched(stored, *same((0, 0, HEIGHT, WIDTH), 3)), stored.float())


def test_each_image_of_a_batch_has_its_own_rectangle() -> None:
    stored, places = images(9), rectangles(numbers(9), HEIGHT, WIDTH, CropSpec())

    together = stretched(stored, *places)

    alone = [stretched(stored[row : row + 1], *(each[row : row + 1] for each in places)) for row in range(9)]
    assert torch.equal(together, torch.cat(alone))
    assert len(torch.stack(places).unique(dim=1).T) > 5


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Kolmogorov's and Smirnov's: the largest difference of the two distributions."""
    at = torch.cat((one, other)).sort().values
    shares = [torch.searchsorted(each.sort().values, at, right=True) / len(each) for each in (one, other)]
    return (shares[0] - shares[1]).abs().max().item()


@pytest.mark.parametrize(
    ("height", "width", "asked"),
    [
        (64, 64, CropSpec(area=(0.08, 1.0), ratio=(0.75, 1.333))),
        (96, 48, CropSpec(area=(0.35, 1.0), ratio=(0.75, 1.333))),
    ],
    ids=["square", "tall"],
)
def test_areas_ratios_and_places_are_spread_as_torchvisions(height: int, width: int, asked: CropSpec) -> None:
    count, theirs = 1_000, v2.RandomResizedCrop(8, scale=asked.area, ratio=asked.ratio)
    image = torch.empty(1, height, width)

    top, left, tall, wide = (each.float() for each in rectangles(numbers(20_000), height, width, asked))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [theirs.make_params([image]) for _ in range(count)]

    their_top, their_left, their_tall, their_wide = (
        torch.tensor([float(params[name]) for params in drawn]) for name in ("top", "left", "height", "width")
    )
    pairs = {
        "area": (tall * wide, their_tall * their_wide),
        "ratio": (wide / tall, their_wide / their_tall),
        "top": (top, their_top),
        "left": (left, their_left),
    }
    for name, (ours, others) in pairs.items():
        # Of a thousand and twenty thousand equally distributed values, above 0.063 once in a thousand times.
        assert distance(ours, others) < 0.063, name


def test_rectangles_lie_inside_the_image_and_keep_to_the_limits() -> None:
    asked = CropSpec(area=(0.2, 0.5), ratio=(0.5, 2.0))

    top, left, tall, wide = rectangles(numbers(5_000), 100, 120, asked)

    assert ((top >= 0) & (top + tall <= 100) & (left >= 0) & (left + wide <= 120)).all()
    area, ratio = tall * wide / 12_000, wide / tall
    assert 0.19 < area.min() < 0.21
    assert 0.49 < area.max() < 0.51
    assert 0.48 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.05


@pytest.mark.parametrize(
    ("height", "width", "ratio"), [(10, 100, (0.75, 1.333)), (100, 10, (0.75, 1.333)), (10, 100, (0.1, 0.2))]
)
def test_where_no_rectangle_fits_the_largest_one_in_the_middle_is_taken(
    height: int, width: int, ratio: tuple[float, float]
) -> None:
    asked, theirs = CropSpec(area=(1.0, 1.0), ratio=ratio), v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=ratio)

    found = torch.stack(rectangles(numbers(3), height, width, asked))

    expected = theirs.make_params([torch.empty(1, height, width)])
    assert found.T.tolist() == [[expected[name] for name in ("top", "left", "height", "width")]] * 3


def test_the_exponential_is_pythons_and_the_same_alone_and_among_many() -> None:
    values = torch.linspace(-2.303, 2.303, 1_001, dtype=torch.float64)

    found = exp(values)

    expected = torch.tensor([math.exp(value) for value in values.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0.0)
    assert torch.equal(found, torch.cat([exp(value) for value in values.split(1)]))
