"""What a report's numbers say, in sentences."""

from __future__ import annotations

from shared.records import Estimate, EvaluationRecord, StudentScore

#: Models whose sizes differ by less than this share are of one size.
SAME_SIZE = 0.05
#: With a space that breaks no line.
PERCENT = "\u00a0%"


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    return f"{100 * share:.{digits}f}{PERCENT}"


def points(share: float) -> str:
    """A difference of shares as points, with its sign."""
    return f"{100 * share:+.1f}"


def estimated(estimate: Estimate) -> str:
    """A difference in points with half of its interval, if it has one."""
    if estimate.high is None:
        return points(estimate.mean)
    return f"{points(estimate.mean)} ± {100 * (estimate.high - estimate.mean):.1f}"


def summary(score: StudentScore, teacher: EvaluationRecord | None) -> str:
    """A student in one sentence: how good it is, beside its teacher and beside its control."""
    beside = f", {_beside(score, teacher)}" if teacher else ""
    return f"{score.name}: {percent(score.accuracy.mean)}{beside}; {_gain(score)}."


def _beside(score: StudentScore, teacher: EvaluationRecord) -> str:
    distance = score.accuracy.mean - teacher.accuracy
    ratio = teacher.parameters / max(score.student.parameters, 1)
    if abs(distance) < 0.0005:
        place = "as good as its teacher"
    else:
        place = f"{abs(100 * distance):.1f} points {'above' if distance > 0 else 'under'} its teacher"
    if abs(ratio - 1.0) < SAME_SIZE:
        return f"{place} with as many parameters"
    if ratio > 1.0:
        return f"{place} with {_times(ratio)} fewer parameters"
    return f"{place} with {_times(1 / max(ratio, 1e-9))} more parameters"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:,.0f}x"


def _gain(score: StudentScore) -> str:
    gain = score.gain
    if gain is None:
        return "it has no control, so what the teacher brought is not known"
    seeds = f"n = {gain.n}" if gain.n > 1 else "one seed"
    change = estimated(gain)
    if score.verdict == "inconclusive":
        return f"what the teacher brought over the control is inconclusive: {change}, {seeds}"
    if score.verdict == "better" or (not score.verdict and gain.mean > 0):
        return f"the teacher brought {change} over the control, {seeds}"
    nothing = "less than nothing" if (gain.mean if gain.high is None else gain.high) < 0 else "nothing"
    return f"the teacher brought {nothing} over the control: {change}, {seeds}"
