"""Flip: images with left and right exchanged."""

from __future__ import annotations

import torch


def flip(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Images, left and right exchanged where `mirrored` `[batch]` is 1 and not 0."""
    batch = len(images)
    both = torch.cat((images, images.flip(3)))
    return both.index_select(0, torch.arange(batch, device=images.device) + mirrored * batch)
