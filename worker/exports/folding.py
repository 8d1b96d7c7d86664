"""Folding: batch norms in eval mode become part of the convolution before them, where only rounding tells.

The exporter to ONNX folds a batch norm that follows a convolution at once. Ours in `models.cnn` follow a max pool. A
norm with a positive scale grows with its input, so the largest value stays the largest: both can change places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def fold(model: nn.Module) -> None:
    """Fold what can be folded of a model in eval mode; it is changed.

    Only within `nn.Sequential`, where the order of modules is known to be that of the computation.
    """
    for each in model.modules():
        if type(each) is nn.Sequential:
            _fold_within(model, each)


def _fold_within(model: nn.Module, sequence: nn.Sequential) -> None:
    parts: list[Any] = list(sequence)
    for place, (conv, pool, norm) in enumerate(zip(parts, parts[1:], parts[2:], strict=False)):
        fits = type(conv) is nn.Conv2d and type(pool) is nn.MaxPool2d and type(norm) is nn.BatchNorm2d
        if not fits or pool.return_indices or not all(_is_plain(model, part) for part in (conv, pool, norm)):
            continue
        scale = _scale_of(norm)
        if scale is not None and bool((scale > 0).all()):
            _fold_into(conv, norm, scale)
            sequence[place + 2] = nn.Identity()


def _is_plain(model: nn.Module, part: nn.Module) -> bool:
    """Whether a module is used once, and does nothing but what its class does."""
    uses = sum(each is part for parent in model.modules() for each in parent._modules.values())
    return uses == 1 and not (part._forward_hooks or part._forward_pre_hooks) and "forward" not in vars(part)


def _scale_of(norm: nn.BatchNorm2d) -> torch.Tensor | None:
    """What a norm multiplies each channel by in eval mode, float64; None if the batch decides."""
    if norm.running_var is None or norm.weight is None:
        return None
    return norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()


@torch.no_grad()
def _fold_into(conv: nn.Conv2d, norm: nn.BatchNorm2d, scale: torch.Tensor) -> None:
    """Have a convolution return what the norm would make of it; rounded once, from float64."""
    before = 0.0 if conv.bias is None else conv.bias.double()
    assert norm.running_mean is not None  # As the variance.  # noqa: S101
    bias = (before - norm.running_mean.double()) * scale + norm.bias.double()
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
