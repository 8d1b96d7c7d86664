"""The mean squared difference of the logits."""

from __future__ import annotations

import torch

from distill_queue.shared.spec.losses.mse import Mse
from distill_queue.worker.losses.numerics import Scalar, tempered


def soft_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    _targets: torch.Tensor,
    _options: Mse,
    _temperature: Scalar,
) -> torch.Tensor:
    """The loss as a spec asks for it."""
    return mse(student_logits, teacher_logits)


def mse(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean over the batch and the classes of the squared difference of the logits; it knows no temperature."""
    student, teacher = tempered(student_logits, teacher_logits, 1.0)
    return (student - teacher).square().mean()
