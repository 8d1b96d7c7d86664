"""Interval: how far chance in the choice of test samples reaches."""

from __future__ import annotations

import math

#: Deviations of a normal distribution within which 95 % of it lie.
DEVIATIONS = 1.959964


def wilson(share: float, samples: int) -> tuple[float, float]:
    """The 95 % interval of a share that was counted on so many samples (Wilson 1927): it stays within 0 and 1."""
    if samples < 1:
        return 0.0, 1.0
    squared = DEVIATIONS**2 / samples
    middle = (share + squared / 2) / (1 + squared)
    half = DEVIATIONS * math.sqrt(share * (1 - share) / samples + squared / (4 * samples)) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)
