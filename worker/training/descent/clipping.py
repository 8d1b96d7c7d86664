"""Clipping: gradients scaled down to a largest norm (Pascanu et al. 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

#: As torch's `clip_grad_norm_` has it, against a division by 0.
EPSILON = 1e-6


@torch.no_grad()
def clip(gradients: Sequence[torch.Tensor], largest: float) -> None:
    """Scale each member's gradients so that their norm over all parameters is at most `largest`, in place.

    Args:
        gradients: of each parameter, `[members, ...]`.
        largest: the largest norm; smaller ones stay as they are.

    """
    of_each = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
    factors = (largest / (torch.linalg.vector_norm(of_each, dim=0) + EPSILON)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
