"""What holds for every loss, also where the losses of others have broken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.losses import (
    kd,
)
from tests.unit.worker.losses.every_loss import (
    EVERY,
    SOFT,
    SPECS,
    STANDARDISED,
    Loss,
    batch,
    combined,
    combined_of,
    every_loss,
    examples,
    seeds,
    temperatures,
    value_and_gradient,
)


@every_loss
def test_a_gradient_is_the_slope_of_its_loss(loss: Loss) -> None:
    student, teacher, targets = batch(scale=1.0, rows=3, classes=4)
    step = 1e-2

    _, gradient = value_and_gradient(loss, student, teacher, targets)

    slopes = torch.zeros_like(student)
    for index in range(student.numel()):
        nudge = torch.zeros(student.numel()).index_fill(0, torch.tensor(index), step).view_as(student)
        up = loss(student + nudge, teacher, targets, 2.0, 0.5)
        down = loss(student - nudge, teacher, targets, 2.0, 0.5)
        slopes.view(-1)[index] = (up - down) / (2.0 * step)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(gradient, slopes, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", [*SPECS, *STANDARDISED])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_combined_loss_is_alpha_parts_soft_and_the_rest_cross_entropy(name: str, alpha: float) -> None:
    spec = (SPECS | STANDARDISED)[name]
    student, teacher, targets = batch()

    loss = combined(student, teacher, targets, spec, temperature=3.0, alpha=alpha, label_smoothing=0.2)

    soft_part = SOFT[name](student, teacher, targets, 3.0, alpha)
    hard_part = functional.cross_entropy(student, targets, label_smoothing=0.2)
    torch.testing.assert_close(loss, alpha * soft_part + (1 - alpha) * hard_part)


def test_the_combined_loss_of_kd_is_kd_and_takes_temperature_and_alpha_from_its_arguments() -> None:
    student, teacher, targets = batch()
    spec = DistillationSpec(loss="kd", temperature=100.0, alpha=0.1)

    loss = combined(student, teacher, targets, spec, temperature=2.0, alpha=0.7)

    assert torch.equal(loss, kd(student, teacher, targets, temperature=2.0, alpha=0.7))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("mse", "combined mse")])
@examples
@given(shift=st.floats(-50, 50), temperature=temperatures)
def test_a_constant_added_to_a_row_of_logits_changes_nothing(name: str, shift: float, temperature: float) -> None:
    student, teacher, targets = batch()
    shifts = shift * torch.linspace(-1.0, 1.0, 8)[:, None]

    plain = EVERY[name](student, teacher, targets, temperature, 0.5)
    shifted = EVERY[name](student + shifts, teacher - shifts, targets, temperature, 0.5)

    torch.testing.assert_close(shifted, plain, rtol=1e-3, atol=1e-3)


@every_loss
def test_members_under_vmap_have_the_losses_and_gradients_that_each_has_alone(loss: Loss) -> None:
    _, teacher, targets = batch()
    targets[0] = -1
    students = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    members = students, torch.tensor([0.5, 2.0, 20.0]), torch.tensor([0.0, 0.3, 1.0])

    def member(student: torch.Tensor, temperature: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return loss(student, teacher, targets, temperature, alpha)

    gradients, values = torch.func.vmap(torch.func.grad_and_value(member))(*members)

    for index, (temperature, alpha) in enumerate(zip(members[1].tolist(), members[2].tolist(), strict=True)):
        alone = value_and_gradient(loss, students[index], teacher, targets, temperature, alpha)
        torch.testing.assert_close(values[index], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradients[index], alone[1], rtol=1e-3, atol=1e-5)


@every_loss
def test_members_under_vmap_may_have_teachers_and_targets_of_their_own(loss: Loss) -> None:
    batches = [batch(seed) for seed in range(3)]
    batches[1][2].fill_(-1)
    students, teachers, targets = (torch.stack(parts) for parts in zip(*batches, strict=True))

    values = torch.func.vmap(lambda s, t, y: loss(s, t, y, 2.0, 0.5))(students, teachers, targets)

    expected = torch.stack([loss(*arguments, 2.0, 0.5) for arguments in batches])
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["kd", "dkd", "cross-entropy"])
def test_classes_are_summed_over_so_that_impossible_ones_change_nothing(name: str) -> None:
    student, teacher, targets = batch()
    padded = [functional.pad(logits, (0, 20), value=-1e4) for logits in (student, teacher)]

    loss = EVERY[name](student, teacher, targets, 2.0, 1.0)
    with_more_classes = EVERY[name](padded[0], padded[1], targets, 2.0, 1.0)

    torch.testing.assert_close(with_more_classes, loss, rtol=1e-4, atol=1e-5)


@every_loss
def test_rows_are_averaged_once_so_that_a_batch_seen_twice_is_the_same(loss: Loss) -> None:
    student, teacher, targets = batch()

    once = loss(student, teacher, targets, 2.0, 0.5)
    twice = loss(student.repeat(2, 1), teacher.repeat(2, 1), targets.repeat(2), 2.0, 0.5)

    torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["kd", "dkd", "mse", "kd with labels", "combined dkd", "smoothed cross-entropy"])
def test_a_loss_of_a_batch_is_the_mean_of_the_losses_of_its_rows(name: str) -> None:
    student, teacher, targets = batch()

    loss = EVERY[name](student, teacher, targets, 2.0, 0.5)

    rows = [EVERY[name](student[i : i + 1], teacher[i : i + 1], targets[i : i + 1], 2.0, 0.5) for i in range(8)]
    torch.testing.assert_close(loss, torch.stack(rows).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [EVERY["kd with labels"], *(combined_of(spec) for spec in SPECS.values())])
def test_the_labels_are_for_the_student(loss: Loss) -> None:
    student, teacher, targets = batch()
    right = functional.one_hot(targets, 5) * 20.0

    by_a_good_student = loss(right, teacher, targets, 2.0, 0.0)
    by_a_good_teacher = loss(student, right, targets, 2.0, 0.0)

    assert by_a_good_student < by_a_good_teacher


EDGES: dict[str, tuple[torch.Tensor, torch.Tensor]] = {
    "two classes": (torch.tensor([[30.0, -30.0], [1.0, 2.0]]), torch.tensor([[-30.0, 30.0], [2.0, 2.0]])),
    "extreme": (6e4 * torch.tensor([[1.0, -1, 0], [-1, 1, 1]]), 6e4 * torch.tensor([[-1.0, 1, 1], [1, 0, 1]])),
    "extreme, two classes": (6e4 * torch.tensor([[1.0, -1], [-1, 1]]), 6e4 * torch.tensor([[-1.0, 1], [-1, 1]])),
    "constant student": (torch.full((2, 3), 3.3), torch.tensor([[1.0, 2, 3], [3, 1, 2]])),
    "constant teacher": (torch.tensor([[1.0, 2, 3], [3, 1, 2]]), torch.zeros(2, 3)),
    "both constant": (torch.zeros(2, 3), torch.full((2, 3), 6e4)),
    "all but constant": (torch.tensor([[1.0, 1 + 1e-6, 1], [0, 1e-6, 0]]), torch.tensor([[1e-7, 0.0, 0], [0, 0, 0]])),
    "one row": (torch.tensor([[1.0, 2, 3]]), torch.tensor([[3.0, 1, 2]])),
    "rows alike": (torch.tensor([[1.0, 2, 3]] * 2), torch.tensor([[3.0, 1, 2]] * 2)),
    # Its squares underflow float32 at T = 1.
    "improbable class": (torch.tensor([[0.0, 1, -48], [1, 0, -49]]), torch.tensor([[0.0, 1, -46], [1, 0, -47]])),
}


@every_loss
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
def test_losses_and_gradients_are_finite_at_every_edge(loss: Loss, edge: str, labelled: bool) -> None:
    student, teacher = EDGES[edge]
    targets = torch.arange(len(student)) if labelled else torch.full((len(student),), -1)

    for temperature in (0.01, 1.0, 4.0, 1e4):
        value, gradient = value_and_gradient(loss, student, teacher, targets, temperature)

        assert value.isfinite(), temperature
        assert gradient.isfinite().all(), temperature


@every_loss
@examples
@given(power=st.floats(-2.0, 4.0), scale=st.floats(1e-6, 1.5e4), seed=seeds, classes=st.sampled_from([2, 3, 10, 100]))
def test_losses_and_gradients_are_finite_at_any_temperature_and_scale(
    loss: Loss, power: float, scale: float, seed: int, classes: int
) -> None:
    student, teacher, targets = batch(seed, scale, classes=classes)

    value, gradient = value_and_gradient(loss, student, teacher, targets, 10.0**power)

    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    student, teacher, targets = batch()
    student, teacher = student.to(dtype), teacher.to(dtype)

    value, gradient = value_and_gradient(loss, student, teacher, targets)

    expected, expected_gradient = value_and_gradient(loss, student.float(), teacher.float(), targets)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_extreme_logits_of_half_precision_stay_finite(loss: Loss, dtype: torch.dtype) -> None:
    student = torch.tensor([[6e4, -6e4], [0.0, 0.0]], dtype=dtype)

    value, gradient = value_and_gradient(loss, student, -student, torch.tensor([1, 0]), 0.5)

    assert value.isfinite()
    assert gradient.isfinite().all()
