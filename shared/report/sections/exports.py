"""Exported students: their files, how these answer, and what they cost."""

from __future__ import annotations

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.interval import wilson

#: The most operators of a file that are named, the most frequent first.
MOST_OPERATORS = 6
ANSWERS = ("file", "bytes", "accuracy", "95 % interval", "the student's", "agrees", "largest difference")
COSTS = ("file", "ms a sample", "95 %", "cold start, ms", "operators")


def section(facts: ReportFacts) -> Section | None:
    """A table of how each file answers and one of what it costs; nothing where no student was exported."""
    files = [(f"{each.model.name}, {file.format}", file) for each in facts.students for file in each.score.exports]
    if not files:
        return None
    samples = " or ".join(sorted({f"{file.samples:,}" for _, file in files}))
    answers = Table(
        f"Answers of the files to {samples} test samples", ANSWERS, tuple(_answers(*each) for each in files)
    )
    costs = Table(
        f"Costs of the files: {'; '.join(sorted({file.measured_on for _, file in files}))}",
        COSTS,
        tuple(_costs(*each) for each in files),
        about=tuple(_operators(file) for _, file in files),
    )
    text = (
        "Each file was evaluated in its own runtime, on all test samples: one whose answers are not the student's is "
        "not made. The interval is Wilson's: how far the choice of test samples reaches. Agrees: share of the samples "
        "on which file and student choose the same class. Largest difference: of a logit, as a share of the range of "
        "the student's logits. Times are the median and the 95th percentile of one sample after another, in a process "
        "of its own; cold start: loading the file and answering once."
    )
    notes = ["Not measured on a phone: times are others there, and in other runtimes."]
    if any(len(each.score.runs) > 1 for each in facts.students if each.score.exports):
        notes.append("Of a student with several seeds, the first seed's model is exported.")
    return Section("Exported students", text, tables=(answers, costs), notes=tuple(notes))


def _answers(name: str, file: ExportRecord) -> tuple[str, ...]:
    low, high = wilson(file.accuracy, file.samples)
    return (
        name,
        f"{file.size_bytes:,}",
        percent(file.accuracy, 2),
        f"{100 * low:.2f} to {percent(high, 2)}",
        percent(file.model_accuracy, 2),
        percent(file.agreement, 2),
        f"{file.difference / file.logits_range:.1e}" if file.logits_range else "",
    )


def _costs(name: str, file: ExportRecord) -> tuple[str, ...]:
    times = (f"{file.latency_median_ms:.3f}", f"{file.latency_p95_ms:.3f}", f"{file.cold_start_ms:.1f}")
    return (name, *times, f"{sum(file.operators.values()):,}")


def _operators(file: ExportRecord) -> str:
    """The most frequent operators of a file."""
    most = sorted(file.operators.items(), key=lambda each: (-each[1], each[0]))
    more = ", …" if len(most) > MOST_OPERATORS else ""
    return ", ".join(f"{count} {name}" for name, count in most[:MOST_OPERATORS]) + more
