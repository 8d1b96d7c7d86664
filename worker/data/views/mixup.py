"""Mixup: another sample mixed into each image (Zhang et al. 2018)."""

from __future__ import annotations

import torch

from distill_queue.worker.data.views.generator import below

#: A partner's share is a whole number of these, so that blended bytes are exact in float32.
SHARES = 256


def mix_up(
    images: torch.Tensor, others: torch.Tensor, numbers: torch.Tensor, most: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`((256 - share) * image + share * other) / 256`, in place of both, and the partners' shares `[batch]`.

    The share is a random number `[1, batch]` of 256ths, up to `most`. Integers up to 2¹⁶ stay below 2²⁴ on the way,
    where float32 is exact: no rounding, thus no difference between devices, nor with fused multiply-add. Fractions are
    rounded after each operation, by IEEE 754, alike everywhere.
    """
    shares = below(int(most * SHARES) + 1, numbers[0]).float()
    weights = shares.view(-1, *[1] * (images.ndim - 1))
    return images.mul_(SHARES - weights).add_(others.mul_(weights)).div_(SHARES), shares / SHARES
