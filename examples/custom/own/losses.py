"""A soft loss that the engine does not have."""

from __future__ import annotations

import math

import torch


def jensen_shannon(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,  # noqa: ARG001  # Every soft loss is given them; this one needs none.
    *,
    temperature: float | torch.Tensor,
) -> torch.Tensor:
    """`T² * (KL(teacher‖m) + KL(student‖m)) / 2` at T, with m the mean of both, averaged over the batch (Lin 1991).

    Unlike KL it is bounded, by `T² * log 2`: a teacher that is sure and wrong pulls less. Close to the teacher it is a
    quarter of KL.

    Args:
        student_logits: `[batch, classes]`, before softmax.
        teacher_logits: the same, in the type of the soft labels, which may be float16.
        targets: `[batch]`, int64, -1 where there is no label.
        temperature: a number, or a tensor without dimensions where several students are trained together.

    """
    student = (student_logits.float() / temperature).log_softmax(1)
    teacher = (teacher_logits.float() / temperature).log_softmax(1)
    mean = torch.logaddexp(student, teacher) - math.log(2.0)
    terms = teacher.exp() * (teacher - mean) + student.exp() * (student - mean)
    return temperature**2 * terms.sum(1).mean() / 2.0
