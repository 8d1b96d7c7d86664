"""Huang et al. 2022: how the probabilities are correlated between the classes and within them."""

from __future__ import annotations

import torch

from distill_queue.shared.spec.losses.dist import Dist
from distill_queue.worker.losses.numerics import Scalar, deviations_of, tempered


def soft_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    _targets: torch.Tensor,
    options: Dist,
    temperature: Scalar,
) -> torch.Tensor:
    """The loss as a spec asks for it."""
    return dist(
        student_logits,
        teacher_logits,
        temperature=temperature,
        inter_weight=options.inter_weight,
        intra_weight=options.intra_weight,
    )


def dist(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    *,
    temperature: Scalar,
    inter_weight: float,
    intra_weight: float,
) -> torch.Tensor:
    """`T² * (inter_weight * inter + intra_weight * intra)` (Huang et al. 2022, eq. 8 to 10, and T² as in their code).

    Both are 1 - Pearson's correlation of the probabilities at T: `inter` between the classes of a row, averaged over
    the rows, `intra` between the rows of a class, averaged over the classes. The correlation hardly changes with T, so
    T² weighs this loss up against cross-entropy at large T.
    """
    student, teacher = (logits.softmax(1) for logits in tempered(student_logits, teacher_logits, temperature))
    inter, intra = (_decorrelations(student, teacher, dim).mean() for dim in (1, 0))
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def _decorrelations(values: torch.Tensor, others: torch.Tensor, dim: int) -> torch.Tensor:
    """1 - Pearson's correlation along `dim` of two matrices, as half the squared distance of the unit deviations.

    Where one of the two does not vary there is no gradient: 1 there (correlation 0), but 0 where neither varies.
    """
    deviations, length = deviations_of(values, dim)
    other_deviations, other_length = deviations_of(others, dim)
    distance = (deviations / length - other_deviations / other_length).square().sum(dim) / 2.0
    varies, other_varies = (vectors.detach().any(dim) for vectors in (deviations, other_deviations))
    return torch.where(varies & other_varies, distance, (varies ^ other_varies).float())
