"""Soft losses against their formulas, and what all of them have in common."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.losses import (
    Scalar,
    dist,
    dkd,
    soft,
)
from tests.unit.worker.losses.every_loss import (
    PLAIN,
    SOFT,
    SPECS,
    STANDARDISED,
    TEMPERED,
    Formula,
    Loss,
    batch,
    combined,
    dist_written_out,
    dkd_written_out,
    every_soft_loss,
    every_tempered_loss,
    examples,
    kl_written_out,
    seeds,
    temperatures,
    value_and_gradient,
)

FORMULAS: dict[str, Formula] = {"kd": kl_written_out, "dkd": dkd_written_out, "dist": dist_written_out}


@pytest.mark.parametrize("name", FORMULAS)
@examples
@given(temperature=temperatures, seed=seeds)
def test_a_soft_loss_and_its_gradient_are_its_formula_written_out(name: str, temperature: float, seed: int) -> None:
    student, teacher, targets = batch(seed)

    def formula(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor, at: Scalar, _alpha: Scalar) -> torch.Tensor:
        return at**2 * FORMULAS[name](torch.softmax(t / at, 1), torch.softmax(s / at, 1), y)

    value, gradient = value_and_gradient(SOFT[name], student, teacher, targets, temperature)

    expected = value_and_gradient(formula, student.double(), teacher.double(), targets, temperature)
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(gradient.double(), expected[1], rtol=1e-2, atol=1e-3)


def test_the_weights_of_a_soft_loss_come_from_the_spec() -> None:
    student, teacher, targets = batch()
    dkd_spec = DistillationSpec(loss="dkd", target_weight=0.5, others_weight=7.0)
    dist_spec = DistillationSpec(loss="dist", inter_weight=0.5, intra_weight=7.0)

    by_spec = [soft(student, teacher, targets, spec, temperature=2.0) for spec in (dkd_spec, dist_spec)]

    assert torch.equal(by_spec[0], dkd(student, teacher, targets, temperature=2.0, target_weight=0.5, others_weight=7))
    assert torch.equal(by_spec[1], dist(student, teacher, temperature=2.0, inter_weight=0.5, intra_weight=7.0))


def test_a_users_own_loss_is_not_taken_for_one_of_ours() -> None:
    student, teacher, targets = batch()
    spec = DistillationSpec(loss="package.module:loss")

    with pytest.raises(ValueError, match=r"package\.module:loss"):
        soft(student, teacher, targets, spec, temperature=2.0)


@pytest.mark.parametrize("loss", [SOFT[name] for name in STANDARDISED], ids=STANDARDISED)
def test_the_scale_of_the_logits_does_not_matter_to_a_standardised_loss(loss: Loss) -> None:
    student, teacher, targets = batch()

    plain = loss(student, teacher, targets, 2.0, 1.0)
    scaled = loss(7.0 * student + 1.0, 0.3 * teacher, targets, 2.0, 1.0)

    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)


@every_soft_loss
def test_a_student_like_its_teacher_has_no_soft_loss_and_no_gradient(loss: Loss) -> None:
    _, teacher, targets = batch()

    value, gradient = value_and_gradient(loss, teacher, teacher, targets, 4.0)

    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", SOFT)
@examples
@given(power=st.floats(-2.0, 4.0), seed=seeds)
def test_a_soft_loss_is_never_negative_at_any_temperature(name: str, power: float, seed: int) -> None:
    student, teacher, targets = batch(seed, scale=0.3)

    loss = SOFT[name](student, teacher, targets, 10.0**power, 1.0)

    assert loss >= 0.0


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_t_squared_keeps_the_size_of_the_gradient(name: str) -> None:
    _, teacher, targets = batch(scale=0.1)
    student = torch.zeros_like(teacher)

    norms = [
        value_and_gradient(SOFT[name], student, teacher, targets, temperature)[1].norm().item()
        for temperature in (5.0, 50.0, 5000.0)
    ]

    assert norms == pytest.approx([norms[0]] * 3, rel=0.05)


@every_tempered_loss
@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
def test_t_squared_stands_on_every_path(loss: Loss, temperature: float) -> None:
    student, teacher, targets = batch()

    at_temperature = loss(student, teacher, targets, temperature, 1.0)
    by_tensor = loss(student, teacher, targets, torch.tensor(temperature), torch.tensor(1.0))

    expected = temperature**2 * loss(student / temperature, teacher / temperature, targets, 1.0, 1.0)
    torch.testing.assert_close(at_temperature, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_tensor, at_temperature)


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0])
def test_t_squared_does_not_depend_on_alpha(name: str, alpha: float) -> None:
    student, teacher, targets = batch()

    loss = combined(student, teacher, targets, SPECS[name], temperature=4.0, alpha=alpha)

    soft_part = 16.0 * PLAIN[name](student / 4.0, teacher / 4.0, targets, 1.0, 1.0)
    torch.testing.assert_close(loss, alpha * soft_part + (1 - alpha) * functional.cross_entropy(student, targets))


@every_soft_loss
@pytest.mark.parametrize("shape", [(8, 4), (8, 1), (1, 5), (7, 5)])
def test_a_teacher_of_other_classes_or_rows_is_refused_and_not_stretched(loss: Loss, shape: tuple[int, int]) -> None:
    student, _, targets = batch()

    with pytest.raises(ValueError, match=rf"student logits \(8, 5\), teacher logits \({shape[0]}, {shape[1]}\)"):
        loss(student, torch.ones(shape), targets % shape[1], 2.0, 1.0)
