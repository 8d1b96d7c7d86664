"""CutMix: rectangles of other samples, and their shares."""

from __future__ import annotations

import torch
from torchvision.transforms import v2

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.augment import augment
from distill_queue.worker.data.views.cutmix import cut_mix
from distill_queue.worker.data.views.generator import draw, states

COUNT = 3_000


def test_the_share_is_that_of_the_pixels_that_are_the_partners() -> None:
    images, others = torch.zeros(COUNT, 2, 12, 17), torch.ones(COUNT, 2, 12, 17)

    found, shares = cut_mix(images, others, draw(states(0, 0, torch.arange(COUNT)), range(3)), 1.0)

    assert torch.equal(shares, (found[:, 0].sum((1, 2)) / torch.tensor(12.0 * 17.0)).float())
    assert torch.equal(found[:, 0], found[:, 1])
    # It is a rectangle.
    rows, columns = found[:, 0].amax(2).sum(1), found[:, 0].amax(1).sum(1)
    assert torch.equal(found[:, 0].sum((1, 2)), rows * columns)
    assert shares.min() == 0.0
    assert shares.max() > 0.7


def test_shares_are_spread_as_torchvisions() -> None:
    theirs = v2.CutMix(alpha=1.0, num_classes=2)
    image = torch.zeros(1, 1, 32, 32)

    blank = torch.zeros(COUNT, 1, 32, 32)
    _, shares = cut_mix(blank, blank + 1, draw(states(0, 0, torch.arange(COUNT)), range(3)), 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.tensor([1.0 - theirs.make_params([image])["lam_adjusted"] for _ in range(500)])

    quantiles = torch.linspace(0.1, 0.9, 9)
    torch.testing.assert_close(shares.quantile(quantiles), drawn.quantile(quantiles), rtol=0.0, atol=0.07)


def test_the_largest_share_is_kept_to() -> None:
    blank = torch.zeros(COUNT, 1, 64, 64)

    _, shares = cut_mix(blank, blank + 1, draw(states(0, 0, torch.arange(COUNT)), range(3)), 0.3)

    assert 0.28 < shares.max() <= 0.3


def test_views_are_put_together_from_the_views_that_both_samples_have() -> None:
    inputs = torch.randint(0, 256, (20, 3, 9, 9), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    spec = AugmentationSpec(flip=True, shift=2, cutmix=1.0, seed=3)
    plain, rows = spec.model_copy(update={"cutmix": 0.0}), torch.arange(20)

    found = augment(inputs, rows, 4, spec)

    own, others = (augment(inputs, each, 4, plain).inputs for each in (rows, found.partners))
    is_own, is_other = ((found.inputs == each).all(1) for each in (own, others))
    assert (is_own | is_other).all()
    assert ((is_other.float().mean((1, 2)) + 1e-6) >= found.shares).all()
    assert ((is_own.float().mean((1, 2)) + 1e-6) >= 1.0 - found.shares).all()
    assert (found.partners != rows).any()
