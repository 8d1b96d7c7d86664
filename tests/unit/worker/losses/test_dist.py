"""The loss of correlations in its limits."""

from __future__ import annotations

import pytest
import torch

from distill_queue.worker.losses import (
    dist,
)
from tests.unit.worker.losses.every_loss import (
    PLAIN,
    batch,
    dist_written_out,
    value_and_gradient,
)


def test_dist_is_0_for_probabilities_that_are_an_affine_function_of_the_teachers() -> None:
    _, teacher, _ = batch(scale=1.0)
    student = (0.6 * torch.softmax(teacher, 1) + 0.4 / 5).log()

    loss = dist(student, teacher, temperature=1.0, inter_weight=1.0, intra_weight=1.0)

    assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_dist_between_classes_is_blind_to_a_factor_of_a_row_and_within_classes_is_not() -> None:
    _, teacher, _ = batch(scale=1.0)
    factors = torch.linspace(0.1, 0.9, 8)[:, None]
    student = (factors * torch.softmax(teacher, 1) + (1.0 - factors) / 5).log()

    inter = dist(student, teacher, temperature=1.0, inter_weight=1.0, intra_weight=0.0)
    intra = dist(student, teacher, temperature=1.0, inter_weight=0.0, intra_weight=1.0)

    assert inter.item() == pytest.approx(0.0, abs=1e-5)
    assert intra > 0.01


def test_dist_within_a_class_does_not_care_how_rare_the_class_is() -> None:
    student, teacher, targets = batch(scale=1.0)
    rare = torch.tensor([0.0, 0.0, 0.0, 0.0, -20.0])
    student, teacher = student + rare, teacher + rare

    loss = dist(student, teacher, temperature=1.0, inter_weight=1.0, intra_weight=3.0)

    expected = dist_written_out(torch.softmax(teacher.double(), 1), torch.softmax(student.double(), 1), targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0.0)


def test_dist_is_2_for_rows_that_are_opposite_to_the_teachers() -> None:
    _, teacher, _ = batch(scale=0.5)
    student = (-0.2 * torch.softmax(teacher, 1) + 1.2 / 5).log()

    loss = dist(student, teacher, temperature=1.0, inter_weight=1.0, intra_weight=0.0)

    assert loss.item() == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 4])
def test_dist_of_what_does_not_vary_is_no_correlation_and_no_gradient(rows: int) -> None:
    _, teacher, targets = batch(rows=rows)
    constant = torch.full_like(teacher, 3.3)

    by_student, gradient = value_and_gradient(PLAIN["dist"], constant, teacher, targets, 1.0)
    by_teacher, other_gradient = value_and_gradient(PLAIN["dist"], teacher, constant, targets, 1.0)
    by_both, _ = value_and_gradient(PLAIN["dist"], constant, constant - 5.0, targets, 1.0)

    # The weights are 1 between and 3 within classes; a single row varies within no class.
    assert by_student.item() == by_teacher.item() == (4.0 if rows > 1 else 1.0)
    assert by_both.item() == 0.0
    assert not gradient.any()
    assert not other_gradient.any()


def test_dist_averages_between_classes_over_rows_and_within_classes_over_classes() -> None:
    teacher = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.6, 0.3]])
    student = teacher.flip(0)

    inter = dist(student.log(), teacher.log(), temperature=1.0, inter_weight=1.0, intra_weight=0.0)
    intra = dist(student.log(), teacher.log(), temperature=1.0, inter_weight=0.0, intra_weight=1.0)

    # The rows (0.6, 0.3, 0.1) and (0.1, 0.6, 0.3) correlate by -0.0633 / 0.1267; two rows swapped correlate by -1.
    assert inter.item() == pytest.approx(1.5, abs=1e-5)
    assert intra.item() == pytest.approx(2.0, abs=1e-5)
