"""Standardised logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.worker.losses import (
    standardise,
)
from tests.unit.worker.losses.every_loss import (
    batch,
    examples,
    seeds,
)


@examples
@given(scale=st.floats(1e-3, 1e4), seed=seeds)
def test_standardising_is_its_formula_written_out(scale: float, seed: int) -> None:
    logits, _, _ = batch(seed, scale)

    standardised = standardise(logits)

    expected = (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)
    torch.testing.assert_close(standardised, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.3, 6e4])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_a_constant_row_is_standardised_to_zeros_and_leaves_the_others_alone(constant: float, classes: int) -> None:
    varied = batch(classes=classes)[0][0]
    logits = torch.stack((torch.full((classes,), constant), varied)).requires_grad_()

    standardised = standardise(logits)
    (gradient,) = torch.autograd.grad(standardised.square().sum() + standardised[:, 0].sum(), logits)

    assert not standardised[0].any()
    torch.testing.assert_close(standardised[1:], standardise(varied[None]))
    assert gradient.isfinite().all()
