"""What a spec says of the squared difference: nothing but its name."""

from __future__ import annotations

from typing import ClassVar

from distill_queue.shared.spec.losses.loss import SoftLoss


class Mse(SoftLoss):
    """The squared difference of the logits."""

    loss_name: ClassVar[str] = "mse"
    about: ClassVar[str] = "mean squared difference of the logits"
