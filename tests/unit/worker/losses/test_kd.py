"""The divergence from the teacher, and Hinton's loss, against torch and in their limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from distill_queue.worker.losses import (
    dkd,
    kd,
    kl,
)
from tests.unit.worker.losses.every_loss import (
    alphas,
    batch,
    examples,
    kl_written_out,
    seeds,
    temperatures,
)


@examples
@given(temperature=temperatures, seed=seeds)
def test_kl_is_torchs_batch_mean_times_t_squared(temperature: float, seed: int) -> None:
    student, teacher, _ = batch(seed)

    loss = kl(student, teacher, temperature=temperature)

    log_q, log_p = (functional.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    expected = temperature**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@examples
@given(temperature=temperatures, alpha=alphas, smoothing=st.floats(0.0, 1.0), seed=seeds)
def test_kd_is_alpha_parts_soft_and_the_rest_cross_entropy(
    temperature: float, alpha: float, smoothing: float, seed: int
) -> None:
    student, teacher, targets = batch(seed)

    loss = kd(student, teacher, targets, temperature=temperature, alpha=alpha, label_smoothing=smoothing)

    p, q = (torch.softmax(logits.double() / temperature, 1) for logits in (teacher, student))
    hard = functional.cross_entropy(student.double(), targets, label_smoothing=smoothing)
    expected = alpha * temperature**2 * kl_written_out(p, q, targets) + (1 - alpha) * hard
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1e2, 1e3, 1e4])
def test_kl_at_a_large_temperature_is_the_squared_difference_of_the_centred_logits(temperature: float) -> None:
    student, teacher, _ = batch(scale=0.3)

    loss = kl(student, teacher, temperature=temperature)

    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = (difference.square().sum(1) / (2 * 5)).mean()
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0.0)


def test_kl_at_a_small_temperature_is_what_the_student_puts_above_the_teachers_choice() -> None:
    student, teacher, _ = batch()
    temperature = 0.01

    loss = kl(student, teacher, temperature=temperature)

    gaps = student.max(1).values - student[torch.arange(8), teacher.argmax(1)]
    assert gaps.max() > 1.0
    torch.testing.assert_close(loss / temperature, gaps.mean(), rtol=0.01, atol=0.0)


def test_the_teacher_is_what_the_divergence_is_from() -> None:
    teacher = torch.tensor([[0.7, 0.2, 0.1]])
    student = torch.tensor([[0.5, 0.25, 0.25]])
    targets = torch.tensor([0])

    whole = kl(student.log(), teacher.log(), temperature=1.0)
    of_target, of_others = (
        dkd(student.log(), teacher.log(), targets, temperature=1.0, target_weight=weight, others_weight=1.0 - weight)
        for weight in (1.0, 0.0)
    )

    # 0.7 ln(0.7/0.5) + 0.2 ln(0.2/0.25) + 0.1 ln(0.1/0.25); the other way round it is 0.11631.
    assert whole.item() == pytest.approx(0.09927, abs=1e-5)
    # 0.7 ln(0.7/0.5) + 0.3 ln(0.3/0.5)
    assert of_target.item() == pytest.approx(0.08228, abs=1e-5)
    # 2/3 ln(4/3) + 1/3 ln(2/3)
    assert of_others.item() == pytest.approx(0.05663, abs=1e-5)


def test_the_plain_and_the_careful_divergence_agree_where_they_meet() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 10, generator=generator)

    plain, careful = kl(student, teacher, temperature=20.0), kl(student, teacher, temperature=torch.tensor(20.0))

    torch.testing.assert_close(plain, careful, rtol=1e-3, atol=0.0)
