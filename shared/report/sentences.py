"""What a report's numbers say, in sentences."""

from __future__ import annotations

from distill_queue.shared.results.records import DatasetRecord, EvaluationRecord
from distill_queue.shared.results.scores import Estimate, ReportRecord, StudentScore

#: Models whose sizes differ by less than this share are of one size.
SAME_SIZE = 0.05
#: The most students that are summed up, the best first.
MOST_HEADLINES = 3
#: A percent sign behind a space at which no line breaks.
PERCENT = "\u00a0%"


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    return f"{100 * share:.{digits}f}{PERCENT}"


def estimated(estimate: Estimate) -> str:
    """A difference in points with half of its interval, if it has one."""
    mean = f"{100 * estimate.mean:+.1f}"
    if estimate.high is None:
        return mean
    return f"{mean} ± {100 * (estimate.high - estimate.mean):.1f}"


def headlines(scores: ReportRecord) -> tuple[str, ...]:
    """The best student in a sentence, those that follow it in a few words, how many more there are, and the budget."""
    first, *others = sorted(scores.students, key=lambda score: -score.accuracy.mean)
    lines = [summary(first, scores.teacher), *map(_in_short, others[: MOST_HEADLINES - 1])]
    if more := len(scores.students) - len(lines):
        lines.append(f"and {more} more in the table.")
    if scores.budget:
        lines.append(scores.budget.summary)
    return tuple(lines)


def samples(dataset: DatasetRecord) -> str:
    """How many samples a data set has for training, validation and testing."""
    all_labelled = dataset.labelled_samples >= dataset.train_samples
    labelled = "" if all_labelled else f", {dataset.labelled_samples:,} of them with a label"
    held_out = f"; {dataset.validation_samples:,} held out to choose by" if dataset.validation_samples else ""
    return (
        f"{dataset.train_samples:,} training samples{labelled}{held_out}; {dataset.test_samples:,} test samples; "
        f"{dataset.classes} classes"
    )


def summary(score: StudentScore, teacher: EvaluationRecord | None) -> str:
    """A student in one sentence: how good it is, beside its teacher and beside its control."""
    beside = f", {_beside(score, teacher)}" if teacher else ""
    return f"{_named(score)}: {percent(score.accuracy.mean)}{beside}; {_gain(score)}."


def _named(score: StudentScore) -> str:
    return f"{score.name}, taught by {score.teacher}" if score.teacher else score.name


def _in_short(score: StudentScore) -> str:
    gain = score.gain
    seeds = " (one seed)" if gain and gain.high is None else ""
    over = f"{estimated(gain)} over the control{seeds}" if gain else "no control"
    return f"{_named(score)}: {percent(score.accuracy.mean)}, {over}."


def _beside(score: StudentScore, teacher: EvaluationRecord) -> str:
    whose = "the pipeline's" if score.teacher else "its"
    distance = score.accuracy.mean - teacher.accuracy
    ratio = teacher.parameters / max(score.student.parameters, 1)
    if abs(distance) < 0.0005:
        place = f"as good as {whose} teacher"
    else:
        place = f"{abs(100 * distance):.1f} points {'above' if distance > 0 else 'under'} {whose} teacher"
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
    change, teacher = estimated(gain), score.teacher or "the teacher"
    if gain.high is None:  # Without an interval nothing is known of chance.
        return f"{change} over the control; one seed: not told apart from chance"
    if score.verdict == "better":
        return f"{teacher} brought {change} over the control, n = {gain.n}"
    if score.verdict == "inconclusive":
        return f"what {teacher} brought over the control is inconclusive: {change}, n = {gain.n}"
    nothing = "less than nothing" if gain.high < 0 else "nothing"
    return f"{teacher} brought {nothing} over the control: {change}, n = {gain.n}"
