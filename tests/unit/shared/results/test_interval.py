"""The interval of a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.results.interval import wilson


@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(hits: int, samples: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    assert wilson(hits / samples, samples) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_contains_its_share_and_no_impossible_one(counts: tuple[int, int]) -> None:
    hits, samples = counts

    low, high = wilson(hits / samples, samples)

    assert 0.0 <= low <= hits / samples + 1e-12
    assert hits / samples - 1e-12 <= high <= 1.0


def test_nothing_counted_tells_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)
