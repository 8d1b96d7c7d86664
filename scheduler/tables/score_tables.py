"""Tables of scores and costs, and of students side by side."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.results.interval import wilson
from distill_queue.shared.results.measure import BY_CLASS, WORDS
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentScore

if TYPE_CHECKING:  # These load numpy or Celery, which a list of pipelines does without.
    from distill_queue.scheduler.client.comparison import ComparedStudent


def scores_table(results: PipelineResults) -> Table:
    """How good the teacher, the students and their controls are, and what the teacher brought."""
    teacher, students = results.scores.teacher, results.scores.students
    table = _table(f"{results.name}: scores on {students[0].student.samples:,} test samples")
    by_class = results.scores.by_class
    columns = ("accuracy", *(("balanced\naccuracy", "macro\nF1") if by_class else ()), "NLL", "agrees", "gain")
    for name in (*columns, "gap\nclosed", "trained\nin"):
        table.add_column(name, justify="right", no_wrap=True)
    if teacher:
        table.add_row("teacher", *_mean_scores([teacher], by_class=by_class), "", "", _training(teacher))
    for number, one in enumerate(results.scores.teachers, start=1):
        scores = _mean_scores([one], by_class=by_class)
        table.add_row(f"  teacher {number}", *scores, "", "", _training(one), style="dim")
    shown: list[EvaluationRecord] = []
    for score in students:
        closed = "" if score.gap_closed is None else f"{score.gap_closed.mean:.0%}"
        runs = [run.student for run in score.runs]
        gain = _gain(score.gain.mean, score.gain.high) if score.gain else ""
        table.add_row(score.name, *_mean_scores(runs, by_class=by_class), gain, closed, _mean_training(runs))
        controls = [run.control for run in score.runs if run.control]
        if controls and controls != shown:
            scores = _mean_scores(controls, by_class=by_class)
            table.add_row("  control", *scores, "", "", _mean_training(controls), style="dim")
            shown = controls
    table.caption = "agrees: chooses the teacher's class · gain: points over the control, trained without the teacher"
    if by_class:
        table.caption += "\nbalanced accuracy, macro F1: means of recall and F1 over the classes that have test samples"
    for score in students:
        if score.teacher:
            table.caption += f"\n{score.name}: taught by {score.teacher}, whose class it agrees with"
    for name, choice in _choices(results.scores.students):
        best, by = choice.labels[choice.best], f" by {WORDS[choice.best_by]}" if choice.best_by else ""
        table.caption += f"\n{name}: {best}, best of {len(choice.labels)}{by} on held-out samples{choice.tie}"
    if verdicts := [f"{score.name} {score.verdict}" for score in results.scores.students if score.verdict]:
        seeds = max(len(score.runs) for score in results.scores.students)
        table.caption += (
            f"\nMeans over {seeds} seeds, ± half of the 95 % interval. Against the control: {', '.join(verdicts)}"
        )
    if any(score.gain and score.gain.high is None for score in results.scores.students):
        table.caption += "\nA gain from one seed is not told apart from chance."
    return table


def costs_table(results: PipelineResults) -> Table:
    """What the teacher and the students cost to run; controls, and all seeds, cost as much as their student."""
    table = _table(f"{results.name}: cost on {results.scores.students[0].student.device}")
    for name in ("parameters", "multiply-\nadds", "kB on\ndisk", "ms at\nbatch 1", "95 %", "samples/s"):
        table.add_column(name, justify="right")
    if results.scores.teacher:
        table.add_row("teacher", *_costs(results.scores.teacher, results.scores))
    for score in results.scores.students:
        table.add_row(score.name, *_costs(score.student, results.scores))
    table.caption = "times: the best measurement of models that are built alike, such as those of several seeds"
    return table


def exports_table(results: PipelineResults) -> Table | None:
    """The files that students were exported to, and how these answer; None where there are none."""
    files = [(score.name, file) for score in results.scores.students for file in score.exports]
    if not files:
        return None
    table = Table(title=f"{results.name}: exported students")
    table.add_column("student")
    table.add_column("format")
    for name in ("bytes", "accuracy", "95 % interval", "agrees", "ms, median", "95 %", "cold\nstart"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, file in files:
        low, high = wilson(file.accuracy, file.samples)
        times = (f"{each:.3f}" for each in (file.latency_median_ms, file.latency_p95_ms))
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        table.add_row(
            *(name, file.format, f"{file.size_bytes:,}", f"{file.accuracy:.2%}", interval, f"{file.agreement:.2%}"),
            *times,
            f"{file.cold_start_ms:.1f}",
        )
    where = "; ".join(sorted({file.measured_on for _, file in files}))
    table.caption = f"agrees: chooses the student's class · times: {where}; not measured on a phone"
    return table


def comparison_table(students: list[ComparedStudent]) -> Table:
    """Students of several pipelines side by side."""
    table = Table()
    table.add_column("student", overflow="fold")
    for name in ("accuracy", "teacher", "gain", "parameters", "ms at\nbatch 1"):
        table.add_column(name, justify="right", no_wrap=True)
    best = max(student.accuracy for student in students)
    for student in students:
        accuracy = f"{student.accuracy:.2%}"
        table.add_row(
            Text.assemble(f"{student.student} ", (f"of {student.pipeline}\n{student.about}", "dim")),
            Text(accuracy, "bold" if student.accuracy == best else ""),
            _percent(student.teacher_accuracy),
            _gain(student.gain, student.gain_high),
            f"{student.parameters:,}",
            f"{student.latency_median_ms:.3f}",
        )
    if len({student.data_key for student in students}) > 1:
        table.caption = "Not all students have the same data: their accuracies cannot be compared."
    return table


def _choices(scores: tuple[StudentScore, ...]) -> Iterator[tuple[str, ChoiceRecord]]:
    """Each choice from a grid, behind the name of the student or control that it was made for."""
    for score in scores:
        for name, choice in ((score.name, score.choice), (f"{score.name}'s control", score.control_choice)):
            if choice:
                yield name, choice


def _table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("model")
    return table


def _training(record: EvaluationRecord) -> str:
    return "" if record.training_seconds is None else f"{record.training_seconds:.1f} s"


def _mean_scores(records: list[EvaluationRecord], *, by_class: bool) -> tuple[str, ...]:
    classes = [record.classes for record in records if record.classes]
    balanced, f1 = (f"{fmean(getattr(each, name) for each in classes):.2%}" if classes else "" for name in BY_CLASS)
    accuracy = fmean(record.accuracy for record in records)
    likelihood = fmean(record.negative_log_likelihood for record in records)
    agreements = [record.agreement for record in records if record.agreement is not None]
    means = (balanced, f1) if by_class else ()
    return f"{accuracy:.2%}", *means, f"{likelihood:.3f}", f"{fmean(agreements):.2%}" if agreements else ""


def _mean_training(records: list[EvaluationRecord]) -> str:
    seconds = [record.training_seconds for record in records if record.training_seconds is not None]
    return f"{fmean(seconds):.1f} s" if seconds else ""


def _gain(mean: float | None, high: float | None) -> str:
    """A gain in points; with half of its interval if there are several seeds."""
    if mean is None:
        return ""
    return f"{100 * mean:+.2f}" + ("" if high is None else f" ± {100 * (high - mean):.2f}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _costs(record: EvaluationRecord, scores: ReportRecord) -> tuple[str, ...]:
    fastest = scores.fastest(record)
    return (
        record.parameters_in_words,
        f"{record.multiply_adds:,}",
        f"{record.size_bytes / 1000:,.0f}",
        f"{fastest.latency_median_ms:.3f}",
        f"{fastest.latency_p95_ms:.3f}",
        f"{fastest.throughput:,.0f}",
    )
