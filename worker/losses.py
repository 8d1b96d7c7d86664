"""Losses: functions of tensors, computed in float32, averaged over the batch."""

from __future__ import annotations

import torch
from torch.nn import functional


def kd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    """`alpha * T² * KL(teacher‖student at T) + (1 - alpha) * cross-entropy`.

    Hinton, Vinyals and Dean 2015, section 2; the factor T² keeps the size of the gradients as T changes.

    Args:
        student_logits: `[batch, classes]`, before softmax.
        teacher_logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes.
        temperature: what both logits are divided by; above 0.
        alpha: weight of the soft part, from 0 to 1.

    Returns:
        A scalar: the mean over the batch.

    """
    student_logits = student_logits.float()
    soft = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=1),
        functional.log_softmax(teacher_logits.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    loss = alpha * temperature**2 * soft
    if alpha < 1.0:
        loss = loss + (1.0 - alpha) * cross_entropy(student_logits, targets)
    return loss


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood, in nats, of `targets` `[batch]` under `logits` `[batch, classes]`."""
    return functional.cross_entropy(logits.float(), targets)
