"""What a spec says of decoupled distillation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from distill_queue.shared.spec.losses.loss import SoftLoss


class Dkd(SoftLoss):
    """Zhao et al. 2022."""

    loss_name: ClassVar[str] = "dkd"
    about: ClassVar[str] = "decoupled KD: the target and the other classes weighed apart (Zhao et al. 2022)"

    target_weight: float = Field(default=1.0, ge=0.0, le=1e3)
    """Of `dkd` only: weight of the target's part (Zhao et al. 2022, alpha)."""
    others_weight: float = Field(default=8.0, ge=0.0, le=1e3)
    """Of `dkd` only: weight of the other classes' part (beta)."""
