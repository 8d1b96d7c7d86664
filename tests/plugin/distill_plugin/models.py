"""A model whose layers' widths are a list."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn


def pyramid(input_shape: tuple[int, ...], classes: int, widths: list[int]) -> nn.Module:
    """Linear layers of these widths, with ReLU between them."""
    sizes = [prod(input_shape), *widths]
    layers = [layer for ends in pairwise(sizes) for layer in (nn.Linear(*ends), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes))
