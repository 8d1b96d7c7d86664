"""Zhao et al. 2022: the target and the other classes weighed apart."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.shared.spec.losses.dkd import Dkd
from distill_queue.worker.losses.numerics import UNLABELLED, Scalar, divergences, tempered


def soft_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    options: Dkd,
    temperature: Scalar,
) -> torch.Tensor:
    """The loss as a spec asks for it."""
    return dkd(
        student_logits,
        teacher_logits,
        targets,
        temperature=temperature,
        target_weight=options.target_weight,
        others_weight=options.others_weight,
    )


def dkd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: Scalar,
    target_weight: float,
    others_weight: float,
) -> torch.Tensor:
    """`T² * (target_weight * TCKD + others_weight * NCKD)` (Zhao et al. 2022, eq. 7), averaged over the rows.

    TCKD is the divergence over (target, all others), NCKD the one among the others. With `target_weight` 1 and
    `others_weight` a row's own `1 - teacher's probability of the target`, it is `kl`. Two classes have one other: NCKD
    is 0. A row without a label (-1) takes the teacher's likeliest class for its target.
    """
    student, teacher = tempered(student_logits, teacher_logits, temperature)
    targets = torch.where(targets == UNLABELLED, teacher.argmax(1), targets)
    student_target, student_others = _decouple(student, targets)
    teacher_target, teacher_others = _decouple(teacher, targets)
    rows = target_weight * divergences(teacher_target, student_target)
    rows = rows + others_weight * divergences(teacher_others, student_others)
    return temperature**2 * rows.mean()


def _decouple(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of (target, all others) `[batch, 2]`, and of the others alone `[batch, classes - 1]`.

    The others are gathered rather than masked: no infinity comes up, not even with two classes.
    """
    classes = logits.shape[1]
    others = logits.gather(1, (targets[:, None] + torch.arange(1, classes, device=logits.device)) % classes)
    pairs = torch.cat((logits.gather(1, targets[:, None]), others.logsumexp(1, keepdim=True)), dim=1)
    return functional.log_softmax(pairs, dim=1), functional.log_softmax(others, dim=1)
