"""RandAugment and its operations against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from distill_queue.shared.spec.augmentation import RandAugmentSpec
from distill_queue.worker.data.views.generator import draw, states
from distill_queue.worker.data.views.rand_augment import (
    OPERATIONS,
    Strength,
    changed_by_masks,
    changed_by_rows,
    operated,
    rand_augment,
)
from distill_queue.worker.data.views.tone import auto_contrast, equalize, posterize, sharpen, solarize

HEIGHT, WIDTH = 36, 30


def images(count: int = 4) -> torch.Tensor:
    """Bytes, also of few levels, one level, and a narrow range."""
    random = torch.Generator().manual_seed(1)
    stored = torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), generator=random)
    stored[0] //= 3
    stored[1, 0] = 50
    stored[2] = stored[2] // 100 * 100
    return stored.to(torch.uint8)


@pytest.mark.parametrize("magnitude", [0, 9, 22, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name: str, magnitude: int) -> None:
    theirs, bytes_ = v2.RandAugment(), images()
    space, signed = theirs._AUGMENTATION_SPACE[name]
    strengths, stored = space(31, HEIGHT, WIDTH), bytes_ / 255.0
    kinds = torch.full((4,), list(OPERATIONS).index(name))
    # Bytes where torchvision does not round them down.
    exact = name in {"Posterize", "Solarize", "Equalize", "Identity"}

    for sign in (1, -1) if signed else (1,):
        strength = 0.0 if strengths is None else float(strengths[magnitude]) * sign
        expected = theirs._apply_image_or_video_transform(
            bytes_ if exact else stored, name, strength, InterpolationMode.NEAREST, {}
        )
        white = 255.0 if exact else 1.0
        given = bytes_.float() if exact else stored.clone()
        found = operated(given, kinds, torch.full((4,), sign), Strength(magnitude / 30, HEIGHT, WIDTH, white))
        close = (found - expected).abs() <= (0.0 if exact else 2e-6)
        # A pixel that comes from just between two may be either one.
        assert (~close).float().mean() <= (0.003 if name in {"ShearX", "ShearY", "Rotate"} else 0.0)


def test_the_operations_have_torchvisions_names_and_order() -> None:
    assert list(OPERATIONS) == list(v2.RandAugment._AUGMENTATION_SPACE)


def test_a_scale_from_0_to_1_gives_torchvisions_fractions() -> None:
    stored = images() / 255.0

    torch.testing.assert_close(
        sharpen(stored.clone(), torch.full((4,), 1.6), 1.0), functional.adjust_sharpness(stored, 1.6)
    )
    torch.testing.assert_close(posterize(stored.clone(), 3, 1.0), functional.posterize(stored, 3))
    torch.testing.assert_close(solarize(stored.clone(), 0.7, 1.0), functional.solarize(stored, 0.7))
    torch.testing.assert_close(auto_contrast(stored.clone(), 1.0), functional.autocontrast(stored))
    torch.testing.assert_close(equalize(stored.clone(), 1.0), functional.equalize(stored))


@pytest.mark.parametrize("side", [(1, 5), (2, 2), (5, 1)])
def test_an_image_without_an_inside_is_not_sharpened(side: tuple[int, int]) -> None:
    stored = torch.rand(2, 3, *side)

    assert torch.equal(sharpen(stored.clone(), torch.full((2,), 1.6), 1.0), stored)


def test_each_operation_is_as_frequent_as_any_other() -> None:
    count, asked = 2_800, RandAugmentSpec(operations=1, magnitude=20)
    stored = (images()[3:].float() * 0.6 + 20.0).expand(count, -1, -1, -1)[..., :20, :20]
    numbers = draw(states(0, 0, torch.arange(count)), range(2))

    found = rand_augment(stored.contiguous(), numbers, asked, 255.0)

    different, counts = found.flatten(1).unique(dim=0, return_counts=True)
    # Nine operations have a sign; the others are five.
    assert len(different) == 9 * 2 + 5
    expected = torch.tensor([count / 28] * 18 + [count / 14] * 5)
    # Chi-squared of 23 cells: 22 on average, above 55 once in 10 000 tables.
    assert ((counts.sort().values - expected) ** 2 / expected).sum() < 55


@pytest.mark.parametrize("name", [name for name, change in OPERATIONS.items() if change])
def test_masks_choose_on_a_card_what_rows_choose_on_the_cpu(name: str) -> None:
    stored, chosen, change = images(9) * 0.5 + 10.0, torch.arange(9) % 2 == 1, OPERATIONS[name]
    signs, strength = torch.tensor([1.0, -1.0, -1.0]).repeat(3), Strength(0.5, HEIGHT, WIDTH, 255.0)
    assert change is not None

    by_rows = changed_by_rows(stored.clone(), chosen, signs, change, strength)

    assert torch.equal(changed_by_masks(stored.clone(), chosen, signs, change, strength), by_rows)
    assert torch.equal(by_rows[::2], stored[::2])
    assert not torch.equal(by_rows[1::2], stored[1::2])
