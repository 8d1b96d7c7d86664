"""Where things lie in small images."""

from __future__ import annotations

import numpy as np
import pytest

from distill_queue.shared.report.placement import Placement


def bars(count: int = 20, side: int = 16) -> np.ndarray:
    """White bars of 8 x 3 pixels, with a heavier end, whose mass is at row 9, column 7.5; in boxes that move."""
    images = np.zeros((count, side, side), np.uint8)
    for number, image in enumerate(images):
        # A faint tail moves the box's middle from image to image, and the mass hardly.
        image[5:13, 6:9] = 200
        image[5:6, 9 : 9 + number % 4] = 60
    return images


def test_things_are_as_tall_and_lie_where_they_do() -> None:
    placement = Placement.of(bars(), 200)

    assert placement is not None
    assert placement.side == 8
    assert placement.background == 0
    assert placement.by == "mass"
    assert placement.middle == pytest.approx((9.0, 7.5), abs=0.2)
    assert "the centre of its mass" in placement.words


def test_dark_things_on_white_are_as_light_ones_on_black() -> None:
    light, dark = Placement.of(bars(), 200), Placement.of(200 - bars(), 200)

    assert light is not None
    assert dark is not None
    assert (dark.background, dark.side, dark.by) == (1, light.side, light.by)
    assert dark.middle == pytest.approx(light.middle)


def test_things_that_fill_boxes_alike_are_placed_by_these() -> None:
    images = np.zeros((10, 8, 8), np.uint8)
    images[:, 1:7, 2:6] = np.random.default_rng(0).integers(60, 256, (10, 6, 4))

    placement = Placement.of(images, 255)

    assert placement is not None
    assert (placement.by, placement.side, placement.middle) == ("box", 6, (4.0, 4.0))


@pytest.mark.parametrize("images", [np.random.default_rng(0).integers(0, 256, (9, 8, 8)), np.zeros((9, 8, 8))])
def test_photographs_and_empty_images_have_no_placement(images: np.ndarray) -> None:
    assert Placement.of(images.astype(np.uint8), 255) is None
