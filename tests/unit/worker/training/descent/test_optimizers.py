"""Optimisers against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.training.descent.optimizers import Adam, Group, Optimizer, RatesOnDevice, Sgd, build

RATE = 0.01


@pytest.mark.parametrize(
    ("options", "torchs"),
    [
        ({"optimizer": "adam"}, lambda groups: torch.optim.Adam(groups, RATE, fused=True)),
        ({"optimizer": "adamw"}, lambda groups: torch.optim.AdamW(groups, RATE, fused=True)),
        ({"optimizer": "sgd"}, partial(torch.optim.SGD, lr=RATE, momentum=0.9, nesterov=True, fused=True)),
        ({"optimizer": "sgd", "nesterov": False}, partial(torch.optim.SGD, lr=RATE, momentum=0.9, fused=True)),
        ({"optimizer": "sgd", "momentum": 0.0}, partial(torch.optim.SGD, lr=RATE, fused=True)),
    ],
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_torchs_to_the_bit(
    options: dict[str, Any], torchs: Callable[..., torch.optim.Optimizer], weight_decay: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(5, 3, generator=generator), torch.randn(3, generator=generator)]
    theirs = [tensor.clone() for tensor in ours]
    spec = TrainingSpec.model_validate(options)
    optimizer = build(spec, [Group(ours[:1], RATE, weight_decay), Group(ours[1:], RATE, 0.0)])
    other = torchs([{"params": theirs[:1], "weight_decay": weight_decay}, {"params": theirs[1:], "weight_decay": 0.0}])

    for step in range(5):
        factor = 1.0 / (step + 1)
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        for group in other.param_groups:
            group["lr"] = RATE * factor
        optimizer.step(factor)
        other.step()

    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))


def test_groups_have_learning_rates_of_their_own() -> None:
    slow, fast = torch.zeros(3), torch.zeros(3)
    optimizer = build(TrainingSpec(), [Group([slow], 0.1, 0.0), Group([fast], 0.2, 0.0)])

    slow.grad, fast.grad = torch.ones(3), torch.ones(3)
    optimizer.step(0.5)

    torch.testing.assert_close(slow, torch.full((3,), -0.05))
    torch.testing.assert_close(fast, torch.full((3,), -0.1))
    assert slow.grad is None


@pytest.mark.parametrize("kind", [Adam, partial(Adam, decoupled=True), Sgd], ids=["adam", "adamw", "sgd"])
def test_learning_rates_on_the_device_are_those_of_the_groups_but_for_rounding(kind: Callable[..., Optimizer]) -> None:
    ends = []

    for on_device in (False, True):
        generator = torch.Generator().manual_seed(0)
        tensors = [torch.randn(5, 3, generator=generator), torch.randn(3, generator=generator)]
        optimizer = kind([Group(tensors[:1], RATE, 0.1), Group(tensors[1:], 3 * RATE, 0.0)], rates_on_device=on_device)
        for factor in (1.0, 0.5, 1e-3):
            for tensor in tensors:
                tensor.grad = torch.randn(tensor.shape, generator=generator)
            optimizer.step(factor)
        ends.append(tensors)

    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def test_rates_on_the_device_stay_where_they_are_as_the_factor_changes() -> None:
    rates = RatesOnDevice([Group([torch.zeros(1)], 0.5, 0.0), Group([torch.zeros(1)], 0.25, 0.0)])

    before = rates.now()
    rates.scale(0.5)
    after = rates.now()

    assert [tensor.item() for tensor in after] == [0.25, 0.125]
    assert [tensor.data_ptr() for tensor in before] == [tensor.data_ptr() for tensor in after]
