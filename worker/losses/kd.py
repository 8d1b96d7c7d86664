"""Hinton, Vinyals and Dean 2015: the divergence of the softened probabilities."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.shared.spec.losses.kd import Kd
from distill_queue.worker.losses.cross_entropy import cross_entropy
from distill_queue.worker.losses.numerics import Scalar, divergences, tempered

#: Temperatures up to which the plain sum of a divergence is right to five digits; it takes half of the time.
PLAIN_TEMPERATURE = 20.0


def soft_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    _targets: torch.Tensor,
    _options: Kd,
    temperature: Scalar,
) -> torch.Tensor:
    """The loss as a spec asks for it."""
    return kl(student_logits, teacher_logits, temperature=temperature)


def kd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: Scalar,
    alpha: Scalar,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """`alpha * T² * KL(teacher‖student at T) + (1 - alpha) * cross-entropy` (Hinton et al. 2015, section 2)."""
    student_logits = student_logits.float()
    soft_part = kl(student_logits, teacher_logits, temperature=temperature)
    return alpha * soft_part + (1.0 - alpha) * cross_entropy(student_logits, targets, label_smoothing)


def kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: Scalar) -> torch.Tensor:
    """`T² * KL(teacher‖student at T)`, summed over the classes, averaged over the rows.

    Hinton, Vinyals and Dean 2015, section 2: the factor T² keeps the size of the gradients as T changes. At large T it
    tends to `|student - teacher|² / (2 * classes)` of the rows' logits less their means.
    """
    student, teacher = tempered(student_logits, teacher_logits, temperature)
    log_p, log_q = functional.log_softmax(teacher, dim=1), functional.log_softmax(student, dim=1)
    if isinstance(temperature, float) and temperature <= PLAIN_TEMPERATURE:
        return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    return temperature**2 * divergences(log_p, log_q).mean()
