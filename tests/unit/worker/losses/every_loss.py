"""Every loss as a function of the same arguments, and batches to try it on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.losses import (
    Scalar,
    cross_entropy,
    kd,
    soft,
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
