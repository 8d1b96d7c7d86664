"""Learning rates, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR, PolynomialLR

from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.training.descent.schedules import factor


def factors(steps: int, **training: Any) -> list[float]:
    spec = TrainingSpec.model_validate(training)
    return [factor(spec, step, steps) for step in range(steps)]


def torchs(schedule: Any, steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = schedule(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torchs() -> None:
    assert factors(50, schedule="cosine") == pytest.approx(torchs(CosineAnnealingLR, 50, T_max=50))


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial_is_torchs(power: float) -> None:
    ours, theirs = (
        factors(50, schedule="polynomial", power=power),
        torchs(PolynomialLR, 50, total_iters=50, power=power),
    )

    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_milestones_are_torchs_epoch_by_epoch(gamma: float) -> None:
    ours = factors(7 * 10, schedule="step", milestones=[6, 8], gamma=gamma, epochs=10)

    of_epochs = torchs(MultiStepLR, 10, milestones=[6, 8], gamma=gamma)
    assert ours == pytest.approx([rate for rate in of_epochs for _ in range(7)])


@pytest.mark.parametrize(("schedule", "options"), [("step", {"milestones": [6], "epochs": 10}), ("polynomial", {})])
def test_warmup_comes_before_milestones_and_powers(schedule: str, options: dict[str, Any]) -> None:
    rates = factors(100, schedule=schedule, warmup=0.1, **options)

    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] < 0.2


def test_one_cycle_is_torchs_to_a_step() -> None:
    ours, theirs = factors(1000, schedule="one_cycle"), torchs(OneCycleLR, 1000, max_lr=1.0, total_steps=1001)

    assert ours == pytest.approx(theirs, abs=0.01)
    assert max(ours) == pytest.approx(1.0, abs=1e-4)


def test_warmup_rises_from_near_0_to_1_and_then_the_schedule_begins() -> None:
    rates = factors(100, schedule="cosine", warmup=0.1)

    assert rates[:11] == sorted(rates[:11])
    assert rates[0] < 0.1
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert factors(100, schedule="constant", warmup=0.1)[10:] == [1.0] * 90


@given(
    steps=st.integers(1, 300),
    schedule=st.sampled_from(["constant", "one_cycle", "cosine", "polynomial"]),
    warmup=st.floats(0.0, 0.99),
)
def test_every_factor_is_from_0_to_1(steps: int, schedule: str, warmup: float) -> None:
    rates = factors(steps, schedule=schedule, warmup=warmup)

    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert any(rate > 0.0 for rate in rates)
