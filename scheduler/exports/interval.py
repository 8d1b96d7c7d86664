"""Intervals of shares: how far an accuracy on a limited number of samples can be trusted."""

from __future__ import annotations

from math import sqrt

#: Of the normal distribution: 95 % lie within so many deviations.
Z = 1.959964


def wilson(share: float, samples: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of independent samples (Wilson 1927, "Probable inference", eq. 7)."""
    spread = Z * Z / samples
    middle = share + spread / 2
    half = Z * sqrt(share * (1 - share) / samples + spread / (4 * samples))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
