"""Words: how tables say figures."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.reproduce.figures import Outcome, Student
from distill_queue.shared.results.scores import Estimate


def percent(share: float | None) -> str:
    """A share of 1 as `93.00 %`."""
    return "" if share is None else f"{100 * share:.2f} %"


def accuracy(estimate: Estimate | None) -> str:
    """A mean in points, with half of its interval."""
    return "" if estimate is None else f"{100 * estimate.mean:.2f}{_half(estimate, 100, 2)}"


def gain(estimate: Estimate | None, verdict: str) -> str:
    """A difference in points, with half of its interval; bold where the teacher helped."""
    if estimate is None:
        return ""
    text = f"{100 * estimate.mean:+.2f}{_half(estimate, 100, 2)}"
    return f"**{text}**" if verdict == "better" else text


def compared(outcome: Outcome, student: Student) -> tuple[str, str, str, str]:
    """The accuracies of a teacher, its student and the control, and the gain."""
    return (
        percent(outcome.teacher),
        accuracy(student.accuracy),
        accuracy(student.control_accuracy),
        gain(student.gain, student.verdict),
    )


def share(estimate: Estimate | None) -> str:
    """A share of the gap."""
    return "" if estimate is None else f"{100 * estimate.mean:.0f}{_half(estimate, 100, 0)} %"


def count(estimate: Estimate) -> str:
    """A mean of counts, with half of its interval."""
    return f"{estimate.mean:.1f}{_half(estimate, 1, 1)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of Markdown, whose first columns are to the left."""
    lines = [head, ["---" if place < left else "---:" for place in range(len(head))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _half(estimate: Estimate, factor: float, digits: int) -> str:
    return "" if estimate.high is None else f" ± {factor * (estimate.high - estimate.mean):.{digits}f}"
