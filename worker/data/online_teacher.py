"""Online teacher: a teacher that answers in each step of its student, where its logits are not stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from distill_queue.worker.machine.inputs import Inputs, first, through


@dataclass(frozen=True, slots=True)
class OnlineTeacher:
    """A teacher in eval mode, whose matrix products are of its student's type."""

    model: nn.Module
    dtype: torch.dtype

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Logits `[batch, classes]` of samples `[batch, ...]`, normalised as the student takes them; no gradients."""
        self.model.eval()
        # Not in inference mode, whose tensors take part in no step.
        with (
            torch.no_grad(),
            torch.autocast(first(inputs).device.type, self.dtype, enabled=self.dtype != torch.float32),
        ):
            logits: torch.Tensor = through(self.model, inputs)
        return logits
