"""Colours against torchvision's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms.v2 import functional

from distill_queue.shared.spec.augmentation import JitterSpec
from distill_queue.worker.data.views.colour import (
    brighten,
    change_contrast,
    grayscale,
    jitter,
    luma,
    saturate,
    turn_hue,
)
from distill_queue.worker.data.views.generator import draw, states

Change = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
CHANGES: list[tuple[Change, Callable[[torch.Tensor, float], torch.Tensor]]] = [
    (brighten, functional.adjust_brightness),
    (change_contrast, functional.adjust_contrast),
    (saturate, functional.adjust_saturation),
]


def images(white: float, channels: int = 3) -> torch.Tensor:
    """Bytes, or as many fractions of white."""
    random = torch.Generator().manual_seed(1)
    stored = torch.randint(0, 256, (5, channels, 18, 13), generator=random).float()
    stored[0, :, :, :6] = 77.0  # Without a colour.
    return stored * (white / 255.0)


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(("ours", "theirs"), CHANGES)
def test_brightness_contrast_and_saturation_are_torchvisions(
    ours: Change, theirs: Callable[[torch.Tensor, float], torch.Tensor], factor: float, channels: int, white: float
) -> None:
    stored = images(white, channels)

    found = ours(stored.clone(), torch.full((5,), factor), white)

    torch.testing.assert_close(found / white, theirs(stored / white, factor), rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.1, 0.5])
def test_the_hue_is_turned_as_by_torchvision(turn: float, white: float) -> None:
    stored = images(white)

    found = turn_hue(stored.clone(), torch.full((5,), turn))

    torch.testing.assert_close(found / white, functional.adjust_hue(stored / white, turn), rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_factors_of_one_and_no_turn_leave_the_image_to_the_bit(white: float) -> None:
    stored, ones = images(white), torch.ones(5)

    for change in (brighten, change_contrast, saturate):
        assert torch.equal(change(stored.clone(), ones, white), stored)
    assert torch.equal(turn_hue(stored.clone(), 0.0 * ones), stored)


def test_bytes_are_torchvisions_but_for_its_rounding_down() -> None:
    stored = images(255.0)

    for change, theirs in CHANGES:
        found = change(stored.clone(), torch.full((5,), 1.3), 255.0)
        # It also rounds the grey down that saturation and contrast are measured from.
        expected = theirs(stored.to(torch.uint8), 1.3).float()
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1.4)


def test_jitter_changes_brightness_contrast_saturation_and_hue_in_this_order() -> None:
    stored, asked = images(255.0), JitterSpec(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    numbers = draw(states(3, 1, torch.arange(5)), range(4))

    found = jitter(stored.clone(), numbers, asked, 255.0)

    for place in range(5):
        shares = (numbers[:, place] / 2**32).tolist()
        image = stored[place] / 255.0
        image = functional.adjust_brightness(image, 0.6 + 0.8 * shares[0])
        image = functional.adjust_contrast(image, 0.7 + 0.6 * shares[1])
        image = functional.adjust_saturation(image, 0.8 + 0.4 * shares[2])
        image = functional.adjust_hue(image, -0.1 + 0.2 * shares[3])
        torch.testing.assert_close(found[place] / 255.0, image, rtol=0.0, atol=1e-5)


def test_the_asked_share_of_the_images_loses_its_colours() -> None:
    stored = images(255.0)[1:2].expand(2_000, -1, -1, -1)
    numbers = draw(states(0, 0, torch.arange(2_000)), range(1))

    found = grayscale(stored, numbers, 0.2, 255.0)

    grey = functional.rgb_to_grayscale(stored[0], 3)
    is_grey, is_same = (((found - image).abs() < 1e-3).flatten(1).all(1) for image in (grey, stored[0]))
    assert (is_grey ^ is_same).all()
    assert is_grey.float().mean().item() == pytest.approx(0.2, abs=0.04)


def test_the_grey_of_other_numbers_of_channels_is_their_mean() -> None:
    stored = images(255.0, 4)

    torch.testing.assert_close(luma(stored), stored.mean(1, keepdim=True))


def test_an_images_mean_grey_is_the_same_alone_and_among_many() -> None:
    random = torch.Generator().manual_seed(1)
    stored, factors = torch.rand(40, 3, 64, 64, generator=random), torch.zeros(40)

    together = change_contrast(stored.clone(), factors, 1.0)

    assert torch.equal(together, torch.cat([change_contrast(one.clone(), factors[:1], 1.0) for one in stored.split(1)]))
