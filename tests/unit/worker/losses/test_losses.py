"""Losses against their formulas, their limits, and the ways in which the losses of others have broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.losses import (
    Scalar,
    cross_entropy,
    dist,
    dkd,
    kd,
    kl,
    mixed_cross_entropy,
    mse,
    soft,
    standardise,
)
from distill_queue.worker.training.objective import Goal
from tests import properties

#: Student's and teacher's logits, targets, temperature, alpha.
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Scalar, Scalar], torch.Tensor]

#: A loss of float64 probabilities of teacher and student `[batch, classes]` and targets, without its T².
Formula = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

SPECS = {
    "kd": DistillationSpec(loss="kd"),
    "dkd": DistillationSpec(loss="dkd", target_weight=1.0, others_weight=2.0),
    "dist": DistillationSpec(loss="dist", inter_weight=1.0, intra_weight=3.0),
    "mse": DistillationSpec(loss="mse"),
}
STANDARDISED = {f"standardised {name}": spec.model_copy(update={"standardise": True}) for name, spec in SPECS.items()}


def soft_of(spec: DistillationSpec) -> Loss:
    return lambda student, teacher, targets, temperature, _: soft(
        student, teacher, targets, spec, temperature=temperature
    )


def combined(
    student: torch.Tensor,
    teacher: torch.Tensor,
    targets: torch.Tensor,
    spec: DistillationSpec,
    *,
    temperature: Scalar,
    alpha: Scalar,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """The loss that a student is trained on."""
    return Goal(spec, label_smoothing).loss(student, teacher, targets, None, None, temperature, alpha)


def combined_of(spec: DistillationSpec) -> Loss:
    return lambda student, teacher, targets, temperature, alpha: combined(
        student, teacher, targets, spec, temperature=temperature, alpha=alpha, label_smoothing=0.1
    )


PLAIN: dict[str, Loss] = {name: soft_of(spec) for name, spec in SPECS.items()}
SOFT: dict[str, Loss] = PLAIN | {name: soft_of(spec) for name, spec in STANDARDISED.items()}
TEMPERED: dict[str, Loss] = {name: PLAIN[name] for name in ("kd", "dkd", "dist")}
EVERY: dict[str, Loss] = {
    **SOFT,
    **{f"combined {name}": combined_of(spec) for name, spec in SPECS.items()},
    "kd with labels": lambda s, t, y, temperature, alpha: kd(s, t, y, temperature=temperature, alpha=alpha),
    "cross-entropy": lambda s, _t, y, _temperature, _alpha: cross_entropy(s, y),
    "smoothed cross-entropy": lambda s, _t, y, _temperature, _alpha: cross_entropy(s, y, 0.1),
}

temperatures = st.floats(0.5, 20.0)
alphas = st.floats(0.0, 1.0)
seeds = st.integers(0, 1000)
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)
every_soft_loss = pytest.mark.parametrize("loss", SOFT.values(), ids=SOFT)
every_tempered_loss = pytest.mark.parametrize("loss", TEMPERED.values(), ids=TEMPERED)
examples = properties.examples(20)


def batch(
    seed: int = 0, scale: float = 3.0, rows: int = 8, classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, rows, classes, generator=random) * scale
    return student, teacher, torch.randint(classes, (rows,), generator=random)


def value_and_gradient(
    loss: Loss,
    student: torch.Tensor,
    teacher: torch.Tensor,
    targets: torch.Tensor,
    temperature: Scalar = 2.0,
    alpha: Scalar = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    student = student.detach().clone().requires_grad_()
    value = loss(student, teacher, targets, temperature, alpha)
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


# Formulas, written out once more in float64.


def kl_written_out(p: torch.Tensor, q: torch.Tensor, _targets: torch.Tensor) -> torch.Tensor:
    return (p * (p / q).log()).sum(1).mean()


def dkd_written_out(p: torch.Tensor, q: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    rows = []
    for p_row, q_row, target in zip(p, q, targets.tolist(), strict=True):
        others = [index for index in range(len(p_row)) if index != target]
        p_pair = torch.stack((p_row[target], p_row[others].sum()))
        q_pair = torch.stack((q_row[target], q_row[others].sum()))
        p_others, q_others = p_row[others] / p_pair[1], q_row[others] / q_pair[1]
        rows.append((p_pair * (p_pair / q_pair).log()).sum() + 2.0 * (p_others * (p_others / q_others).log()).sum())
    return torch.stack(rows).mean()


def dist_written_out(p: torch.Tensor, q: torch.Tensor, _targets: torch.Tensor) -> torch.Tensor:
    def decorrelation(vectors: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        pairs = zip(vectors, others, strict=True)
        return torch.stack([1.0 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()

    return decorrelation(p, q) + 3.0 * decorrelation(p.T, q.T)


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


# Invariances.


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("mse", "combined mse")])
@examples
@given(shift=st.floats(-50, 50), temperature=temperatures)
def test_a_constant_added_to_a_row_of_logits_changes_nothing(name: str, shift: float, temperature: float) -> None:
    student, teacher, targets = batch()
    shifts = shift * torch.linspace(-1.0, 1.0, 8)[:, None]

    plain = EVERY[name](student, teacher, targets, temperature, 0.5)
    shifted = EVERY[name](student + shifts, teacher - shifts, targets, temperature, 0.5)

    torch.testing.assert_close(shifted, plain, rtol=1e-3, atol=1e-3)


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


# Limits of the temperature.


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


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_t_squared_keeps_the_size_of_the_gradient(name: str) -> None:
    _, teacher, targets = batch(scale=0.1)
    student = torch.zeros_like(teacher)

    norms = [
        value_and_gradient(SOFT[name], student, teacher, targets, temperature)[1].norm().item()
        for temperature in (5.0, 50.0, 5000.0)
    ]

    assert norms == pytest.approx([norms[0]] * 3, rel=0.05)


# Decoupled KD.


@examples
@given(temperature=temperatures, seed=seeds)
def test_dkd_is_kl_when_the_others_weigh_what_the_teacher_gives_them(temperature: float, seed: int) -> None:
    student, teacher, targets = batch(seed)
    others = 1.0 - torch.softmax(teacher / temperature, 1)[torch.arange(8), targets]

    rows = [
        dkd(s[None], t[None], y[None], temperature=temperature, target_weight=1.0, others_weight=weight)
        for s, t, y, weight in zip(student, teacher, targets, others.tolist(), strict=True)
    ]

    expected = kl(student, teacher, temperature=temperature)
    torch.testing.assert_close(torch.stack(rows).mean(), expected, rtol=1e-4, atol=1e-4)


def test_dkd_of_two_classes_has_nothing_among_the_others() -> None:
    student, teacher, targets = batch(classes=2)

    losses = [
        dkd(student, teacher, targets, temperature=2.0, target_weight=1.0, others_weight=weight)
        for weight in (0.0, 1000.0)
    ]

    assert torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0], kl(student, teacher, temperature=2.0))


def test_dkd_takes_the_teachers_choice_for_the_target_of_an_unlabelled_row() -> None:
    student, teacher, targets = batch()
    unlabelled = torch.where(torch.arange(8) < 4, -1, targets)
    chosen = torch.where(torch.arange(8) < 4, teacher.argmax(1), targets)
    assert (student.argmax(1) != teacher.argmax(1))[:4].any()

    loss = PLAIN["dkd"](student, teacher, unlabelled, 2.0, 1.0)

    assert torch.equal(loss, PLAIN["dkd"](student, teacher, chosen, 2.0, 1.0))


# DIST.


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


# Cross-entropy and mean squared error.


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


def test_mse_is_torchs() -> None:
    student, teacher, _ = batch()

    loss = mse(student, teacher)

    torch.testing.assert_close(loss, functional.mse_loss(student, teacher))


# Standardisation.


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


# Many members at once.


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


# Conformance: each way in which other projects' losses have broken.


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


@every_soft_loss
@pytest.mark.parametrize("shape", [(8, 4), (8, 1), (1, 5), (7, 5)])
def test_a_teacher_of_other_classes_or_rows_is_refused_and_not_stretched(loss: Loss, shape: tuple[int, int]) -> None:
    student, _, targets = batch()

    with pytest.raises(ValueError, match=rf"student logits \(8, 5\), teacher logits \({shape[0]}, {shape[1]}\)"):
        loss(student, torch.ones(shape), targets % shape[1], 2.0, 1.0)


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


def test_cross_entropy_is_averaged_over_rows_and_not_over_classes() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]]).log()

    loss = cross_entropy(logits, torch.tensor([1, 3]))

    # (ln 4 + ln 2.5) / 2
    assert loss.item() == pytest.approx(1.15129, abs=1e-5)


def test_dist_averages_between_classes_over_rows_and_within_classes_over_classes() -> None:
    teacher = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.6, 0.3]])
    student = teacher.flip(0)

    inter = dist(student.log(), teacher.log(), temperature=1.0, inter_weight=1.0, intra_weight=0.0)
    intra = dist(student.log(), teacher.log(), temperature=1.0, inter_weight=0.0, intra_weight=1.0)

    # The rows (0.6, 0.3, 0.1) and (0.1, 0.6, 0.3) correlate by -0.0633 / 0.1267; two rows swapped correlate by -1.
    assert inter.item() == pytest.approx(1.5, abs=1e-5)
    assert intra.item() == pytest.approx(2.0, abs=1e-5)


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


def test_the_plain_and_the_careful_divergence_agree_where_they_meet() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 10, generator=generator)

    plain, careful = kl(student, teacher, temperature=20.0), kl(student, teacher, temperature=torch.tensor(20.0))

    torch.testing.assert_close(plain, careful, rtol=1e-3, atol=0.0)
