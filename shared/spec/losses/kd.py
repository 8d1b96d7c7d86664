"""What a spec says of Hinton's loss: nothing but its name."""

from __future__ import annotations

from typing import ClassVar

from distill_queue.shared.spec.losses.loss import SoftLoss


class Kd(SoftLoss):
    """Hinton et al. 2015."""

    loss_name: ClassVar[str] = "kd"
    about: ClassVar[str] = "KL divergence of the softened probabilities times T² (Hinton et al. 2015)"
