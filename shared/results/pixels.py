"""Pixels: which value is white, and whether all may lie between black and white, as mean and deviation tell it."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: What no mean and deviation of values from 0 to 1 add up to: at most (1 + sqrt(2)) / 2.
MOST_OF_UNIT = 1.21
#: How far a deviation may be above the largest possible one, as both are rounded.
ROUNDING = 1.001


def white_of(mean: Sequence[float], std: Sequence[float]) -> float:
    """The value of a white pixel: 1 where all pixels seem to be from 0 to 1, else 255.

    Args:
        mean: of each channel.
        std: its deviation.

    """
    sums = [mean + std for mean, std in zip(mean, std, strict=True)]
    return 1.0 if max(sums, default=math.inf) <= MOST_OF_UNIT else 255.0


def reach_from_black_to_white(mean: Sequence[float], std: Sequence[float], white: float) -> bool:
    """Whether all pixels may be from 0 to white.

    Values from 0 to white deviate most if each is either.

    Args:
        mean: of each channel.
        std: its deviation; a channel that is divided by more than that is constant.
        white: the value of a white pixel.

    """
    return all(
        0.0 <= middle <= white
        and (deviation <= ROUNDING * math.sqrt(middle * (white - middle)) or deviation == max(middle, 1.0))
        for middle, deviation in zip(mean, std, strict=True)
    )
