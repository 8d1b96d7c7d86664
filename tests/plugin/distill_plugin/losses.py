"""A loss by the angle between the logits."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.worker.losses import Scalar, kl


def cosine(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: Scalar,
    divergence: float = 0.0,
) -> torch.Tensor:
    """1 - the cosine of both logits' angle, averaged over the batch, and a share of the divergence."""
    angle = (1.0 - functional.cosine_similarity(student_logits.float(), teacher_logits.float(), dim=1)).mean()
    return angle + divergence * kl(student_logits, teacher_logits, temperature=temperature)
