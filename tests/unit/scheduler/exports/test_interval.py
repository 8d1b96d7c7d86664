"""Wilson's interval of a share."""

from __future__ import annotations

import pytest

from distill_queue.scheduler.exports.interval import wilson


@pytest.mark.parametrize(
    ("right", "samples", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(right: int, samples: int, low: float, high: float) -> None:
    assert wilson(right / samples, samples) == pytest.approx((low, high), abs=5e-5)
