"""The soft loss that a spec names, found in this room by its name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.losses.numerics import Scalar, standardise


def soft(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    distillation: DistillationSpec,
    *,
    temperature: Scalar,
) -> torch.Tensor:
    """The soft loss that `distillation` names, of standardised logits if it says so.

    Raises:
        ValueError: the loss is not one of this package, or student and teacher differ in their classes.

    """
    if is_reference(distillation.loss):
        raise ValueError(f"'{distillation.loss}' is no loss of this package: import it and call it instead of `soft`")
    if distillation.standardise:
        student_logits, teacher_logits = standardise(student_logits), standardise(teacher_logits)
    loss: torch.Tensor = _module(distillation.loss).soft_loss(
        student_logits, teacher_logits, targets, distillation, temperature
    )
    return loss


@cache
def _module(loss: str) -> Any:
    return import_module(f"distill_queue.worker.losses.{loss}")
