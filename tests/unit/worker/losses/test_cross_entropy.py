"""Cross-entropy against torch's, with labels that are smoothed, missing or mixed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from distill_queue.worker.losses import (
    cross_entropy,
    mixed_cross_entropy,
)
from tests.unit.worker.losses.every_loss import (
    batch,
    examples,
    seeds,
)


@examples
@given(smoothing=st.floats(0.0, 1.0), seed=seeds)
def test_label_smoothing_is_torchs(smoothing: float, seed: int) -> None:
    student, _, targets = batch(seed)

    loss = cross_entropy(student, targets, smoothing)

    even = -functional.log_softmax(student, dim=1).mean()
    torch.testing.assert_close(loss, functional.cross_entropy(student, targets, label_smoothing=smoothing))
    torch.testing.assert_close(loss, (1 - smoothing) * cross_entropy(student, targets) + smoothing * even)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_unlabelled_rows_change_nothing_in_cross_entropy(smoothing: float) -> None:
    student, teacher, targets = batch()
    all_logits = torch.cat((student, teacher)).requires_grad_()

    loss = cross_entropy(all_logits, torch.cat((targets, torch.full((8,), -1))), smoothing)
    (gradient,) = torch.autograd.grad(loss, all_logits)

    torch.testing.assert_close(loss.detach(), cross_entropy(student, targets, smoothing))
    assert gradient[:8].abs().max() > 0.0
    assert not gradient[8:].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_without_any_label_is_0_and_has_no_gradient(smoothing: float) -> None:
    student = batch()[0].requires_grad_()

    loss = cross_entropy(student, torch.full((8,), -1), smoothing)
    (gradient,) = torch.autograd.grad(loss, student)

    assert loss.item() == 0.0
    assert torch.equal(gradient, torch.zeros(8, 5))


def test_cross_entropy_is_averaged_over_rows_and_not_over_classes() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]]).log()

    loss = cross_entropy(logits, torch.tensor([1, 3]))

    # (ln 4 + ln 2.5) / 2
    assert loss.item() == pytest.approx(1.15129, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mixed_labels_are_weighed_by_the_shares_of_their_samples(share: float) -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    own, partners = torch.arange(8) % 5, (torch.arange(8) + 2) % 5

    loss = mixed_cross_entropy(logits, own, partners, torch.full((8,), share))

    expected = (1 - share) * cross_entropy(logits, own) + share * cross_entropy(logits, partners)
    torch.testing.assert_close(loss, expected)


def test_a_mixed_row_counts_by_the_labels_that_are_known() -> None:
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    own, partners, shares = torch.tensor([1, -1]), torch.tensor([-1, -1]), torch.tensor([0.25, 0.5])

    loss = mixed_cross_entropy(logits, own, partners, shares)

    torch.testing.assert_close(loss, cross_entropy(logits[:1], own[:1]))


WEIGHTS = torch.tensor([0.2, 1.0, 30.0, 1.0, 2.5])


@examples
@given(smoothing=st.floats(0.0, 1.0), seed=seeds)
def test_class_weights_are_torchs(smoothing: float, seed: int) -> None:
    student, _, targets = batch(seed)

    loss = cross_entropy(student, targets, smoothing, WEIGHTS)

    torch.testing.assert_close(loss, functional.cross_entropy(student, targets, WEIGHTS, label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_unlabelled_rows_change_nothing_in_a_weighted_loss(smoothing: float) -> None:
    student, teacher, targets = batch()
    unlabelled = torch.full((8,), -1)

    loss = cross_entropy(torch.cat((student, teacher)), torch.cat((targets, unlabelled)), smoothing, WEIGHTS)

    torch.testing.assert_close(loss, cross_entropy(student, targets, smoothing, WEIGHTS))
    assert cross_entropy(student, unlabelled, smoothing, WEIGHTS).item() == 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_blended_label_counts_by_its_share_and_its_weight(smoothing: float) -> None:
    student, _, targets = batch()
    partners, shares = targets.flip(0), torch.linspace(0.0, 0.9, 8)

    loss = mixed_cross_entropy(student, targets, partners, shares, smoothing, WEIGHTS)

    # Each row twice, with its own label and with its partner's: torch takes no weight of a row, so the rows are summed.
    rows = functional.cross_entropy(
        student.repeat(2, 1),
        torch.cat((targets, partners)),
        WEIGHTS,
        reduction="none",
        label_smoothing=smoothing,
    )
    parts = torch.cat((1 - shares, shares))
    weights = WEIGHTS[torch.cat((targets, partners))]
    torch.testing.assert_close(loss, (parts * rows).sum() / (parts * weights).sum())
    alone = mixed_cross_entropy(student, targets, partners, torch.zeros(8), smoothing, WEIGHTS)
    torch.testing.assert_close(alone, functional.cross_entropy(student, targets, WEIGHTS, label_smoothing=smoothing))
