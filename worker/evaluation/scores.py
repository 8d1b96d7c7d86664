"""Scores of a student, from its runs over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import Estimate, StudentRun, StudentScore

CONFIDENCE = 0.95


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and 95 % confidence interval by Student's t of independent values."""
    n = len(values)
    if n == 1:
        return Estimate(mean=values[0], deviation=None, low=None, high=None, n=1)
    from scipy.special import stdtrit  # Student's t; loading it takes a while, and few pipelines have seeds.

    mean, deviation = fmean(values), stdev(values)
    margin = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / n**0.5
    return Estimate(mean=mean, deviation=deviation, low=mean - margin, high=mean + margin, n=n)


def score(name: str, runs: tuple[StudentRun, ...], teacher: EvaluationRecord | None) -> StudentScore:
    """A student's scores; gains are paired: a student and its control share seed, data and schedule."""
    pairs = [(run.student.accuracy, run.control.accuracy) for run in runs if run.control is not None]
    gaps = [(student - control, teacher.accuracy - control) for student, control in pairs] if teacher else []
    closed = [gain / gap for gain, gap in gaps if gap > 0]
    return StudentScore(
        name=name,
        runs=runs,
        accuracy=estimate([run.student.accuracy for run in runs]),
        control_accuracy=estimate([control for _, control in pairs]) if pairs else None,
        gain=estimate([student - control for student, control in pairs]) if pairs else None,
        gap_closed=estimate(closed) if closed and len(closed) == len(runs) else None,
    )
