"""Losses against their formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional

from worker.losses import cross_entropy, kd

temperatures = st.floats(0.5, 20.0)
alphas = st.floats(0.0, 1.0)


def batch(seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 8, 5, generator=random) * scale
    return student, teacher, torch.randint(5, (8,), generator=random)


@hypothesis_settings(max_examples=50, deadline=None)
@given(temperature=temperatures, alpha=alphas, seed=st.integers(0, 100))
def test_kd_is_its_formula_written_out(temperature: float, alpha: float, seed: int) -> None:
    student, teacher, targets = batch(seed)

    p = torch.softmax(teacher.double() / temperature, 1)
    q = torch.softmax(student.double() / temperature, 1)
    divergence = (p * (p / q).log()).sum(1).mean()
    hard = -torch.log_softmax(student.double(), 1)[torch.arange(8), targets].mean()
    expected = alpha * temperature**2 * divergence + (1 - alpha) * hard

    loss = kd(student, teacher, targets, temperature=temperature, alpha=alpha)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)


@hypothesis_settings(max_examples=30, deadline=None)
@given(shift=st.floats(-50, 50), temperature=temperatures)
def test_a_constant_added_to_the_logits_changes_nothing(shift: float, temperature: float) -> None:
    student, teacher, targets = batch()

    plain = kd(student, teacher, targets, temperature=temperature, alpha=0.5)
    shifted = kd(student + shift, teacher - shift, targets, temperature=temperature, alpha=0.5)

    torch.testing.assert_close(shifted, plain, rtol=1e-3, atol=1e-4)


def test_a_student_like_its_teacher_has_no_soft_loss_and_no_gradient() -> None:
    _, teacher, targets = batch()
    student = teacher.clone().requires_grad_()

    loss = kd(student, teacher, targets, temperature=4.0, alpha=1.0)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_alpha_0_is_cross_entropy_alone() -> None:
    student, teacher, targets = batch()

    loss = kd(student, teacher, targets, temperature=4.0, alpha=0.0)

    torch.testing.assert_close(loss, functional.cross_entropy(student, targets))


def test_t_squared_keeps_the_size_of_the_gradient() -> None:
    _, teacher, targets = batch(scale=0.1)
    norms = []
    for temperature in (5.0, 50.0):
        student = torch.zeros_like(teacher, requires_grad=True)
        kd(student, teacher, targets, temperature=temperature, alpha=1.0).backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        norms.append(student.grad.norm().item())

    assert norms[0] == pytest.approx(norms[1], rel=0.05)


def test_the_teacher_comes_second() -> None:
    student, teacher, targets = batch()

    loss = kd(student, teacher, targets, temperature=2.0, alpha=1.0)
    swapped = kd(teacher, student, targets, temperature=2.0, alpha=1.0)

    assert not torch.isclose(loss, swapped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_and_half_precision_stay_finite_in_float32(dtype: torch.dtype) -> None:
    student = torch.tensor([[6e4, -6e4], [0.0, 0.0]], dtype=dtype)

    loss = kd(student, -student, torch.tensor([1, 0]), temperature=0.5, alpha=0.5)

    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert cross_entropy(student, torch.tensor([1, 0])).isfinite()
