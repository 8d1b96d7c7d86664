"""Scores of a student, from its runs."""

from __future__ import annotations

import pytest

from distill_queue.shared.results.scores import StudentRun
from distill_queue.worker.evaluation.scores import estimate, score
from tests.unit.conftest import evaluation


def runs(*pairs: tuple[float, float | None]) -> tuple[StudentRun, ...]:
    return tuple(
        StudentRun(seed=seed, student=evaluation(student), control=None if control is None else evaluation(control))
        for seed, (student, control) in enumerate(pairs)
    )


def test_an_interval_is_students() -> None:
    # By hand: mean 3, deviation sqrt(2.5), t(0.975, 4) = 2.776.
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])

    assert (found.mean, found.n) == (3.0, 5)
    assert found.deviation == pytest.approx(1.5811, abs=1e-4)
    assert found.low == pytest.approx(3 - 2.7764 * 1.5811 / 5**0.5, abs=1e-3)
    assert found.high == pytest.approx(3 + 2.7764 * 1.5811 / 5**0.5, abs=1e-3)


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    found = score("small", runs((0.9, 0.8)), evaluation(1.0))

    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.1)
    assert found.gain.low is None
    assert found.gap_closed is not None
    assert found.gap_closed.mean == pytest.approx(0.5)
    assert found.verdict == ""


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(0.91, 0.90), (0.92, 0.91), (0.93, 0.919)], "better"),
        ([(0.90, 0.91), (0.91, 0.92), (0.92, 0.931)], "not better"),
        ([(0.90, 0.91), (0.92, 0.91), (0.91, 0.911)], "inconclusive"),
    ],
)
def test_the_verdict_is_where_the_paired_gains_interval_lies(pairs: list[tuple[float, float]], verdict: str) -> None:
    assert score("small", runs(*pairs), evaluation(0.95)).verdict == verdict


def test_gains_are_paired_so_that_what_seeds_share_does_not_blur_them() -> None:
    found = score("small", runs((0.50, 0.49), (0.90, 0.89), (0.70, 0.69)), evaluation(1.0))

    assert found.verdict == "better"


def test_a_gap_that_is_none_is_not_closed() -> None:
    found = score("small", runs((0.9, 0.8), (0.9, 0.8)), evaluation(0.7))

    assert found.gain is not None
    assert found.gap_closed is None


def test_without_controls_nothing_is_said_of_the_teacher() -> None:
    found = score("small", runs((0.9, None), (0.8, None)), evaluation(1.0))

    assert (found.gain, found.control_accuracy, found.verdict) == (None, None, "")
    assert found.accuracy.mean == pytest.approx(0.85)
