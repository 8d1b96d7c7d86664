"""Blend: another sample mixed into each image."""

from __future__ import annotations

import torch

#: A partner's share is a whole number of these, so that blended bytes are exact in float32.
SHARES = 256


def blend(images: torch.Tensor, others: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """`((256 - share) * image + share * other) / 256`, in place of both, with shares int64 `[batch]`.

    Integers up to 2¹⁶ stay below 2²⁴ on the way, where float32 is exact: no rounding, thus no difference between
    devices, nor with fused multiply-add. Fractions are rounded after each operation, by IEEE 754, alike everywhere.
    """
    weights = shares.float().view(-1, *[1] * (images.ndim - 1))
    return images.mul_(SHARES - weights).add_(others.mul_(weights)).div_(SHARES)
