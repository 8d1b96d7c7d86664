"""What a spec says of the loss by correlations."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from distill_queue.shared.spec.losses.loss import SoftLoss


class Dist(SoftLoss):
    """Huang et al. 2022."""

    loss_name: ClassVar[str] = "dist"
    about: ClassVar[str] = "correlation of the probabilities between and within classes (Huang et al. 2022)"

    inter_weight: float = Field(default=2.0, ge=0.0, le=1e3)
    """Of `dist` only: weight of the relations between classes (Huang et al. 2022, beta)."""
    intra_weight: float = Field(default=2.0, ge=0.0, le=1e3)
    """Of `dist` only: weight of the relations within classes (gamma)."""
