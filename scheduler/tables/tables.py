"""What people read: tables of results, plans and pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from statistics import fmean
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill_queue.scheduler.terminal.listing import Column, print_listing
from distill_queue.scheduler.watch.tree import STYLES
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.ledger.status import PipelineStatus, UnreadablePipeline, duration_in_words
from distill_queue.shared.ledger.workers import WorkerEntry
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord, ReportRecord, StudentScore
from distill_queue.shared.store.store import ArtifactStore

if TYPE_CHECKING:  # With numpy or Celery, for which a list of pipelines need not wait.
    import numpy as np
    import numpy.typing as npt

    from distill_queue.scheduler.client.comparison import ComparedStudent
    from distill_queue.scheduler.labels.caches import Cache, Check
    from distill_queue.scheduler.maintenance.doctor import Finding
    from distill_queue.shared.ledger.queues import QueueState
    from distill_queue.shared.soft_labels.encoding import Floats

#: Characters of an error in the list of pipelines; 'distill status ID' has all of it.
LONGEST_ERROR = 80
#: State of a pipeline that this version cannot read.
UNREADABLE = "unreadable"


def scores_table(results: PipelineResults) -> Table:
    """How good the teacher, the students and their controls are, and what the teacher brought."""
    teacher, students = results.scores.teacher, results.scores.students
    table = _table(f"{results.name}: scores on {students[0].student.samples:,} test samples")
    for name in ("accuracy", "NLL", "agrees", "gain", "gap\nclosed", "trained\nin"):
        table.add_column(name, justify="right", no_wrap=True)
    if teacher:
        table.add_row("teacher", *_scores(teacher), "", "", _training(teacher))
    for number, one in enumerate(results.scores.teachers, start=1):
        table.add_row(f"  teacher {number}", *_scores(one), "", "", _training(one), style="dim")
    shown: list[EvaluationRecord] = []
    for score in students:
        closed = "" if score.gap_closed is None else f"{score.gap_closed.mean:.0%}"
        runs = [run.student for run in score.runs]
        gain = _gain(score.gain.mean, score.gain.high) if score.gain else ""
        table.add_row(score.name, *_mean_scores(runs), gain, closed, _mean_training(runs))
        controls = [run.control for run in score.runs if run.control]
        if controls and controls != shown:
            table.add_row("  control", *_mean_scores(controls), "", "", _mean_training(controls), style="dim")
            shown = controls
    table.caption = "agrees: chooses the teacher's class · gain: points over the control, trained without the teacher"
    for name, choice in _choices(results.scores.students):
        best = choice.labels[choice.best]
        table.caption += f"\n{name}: {best}, best of {len(choice.labels)} on held-out samples{choice.tie}"
    if verdicts := [f"{score.name} {score.verdict}" for score in results.scores.students if score.verdict]:
        seeds = max(len(score.runs) for score in results.scores.students)
        table.caption += (
            f"\nMeans over {seeds} seeds, ± half of the 95 % interval. Than its control: {', '.join(verdicts)}"
        )
    if any(score.gain and score.gain.high is None for score in results.scores.students):
        table.caption += "\nA gain from one seed is not told apart from chance."
    return table


def costs_table(results: PipelineResults) -> Table:
    """What the teacher and the students cost to run; a control costs what its student does, with every seed."""
    table = _table(f"{results.name}: cost on {results.scores.students[0].student.device}")
    for name in ("parameters", "multiply-\nadds", "kB on\ndisk", "ms at\nbatch 1", "95 %", "samples/s"):
        table.add_column(name, justify="right")
    if results.scores.teacher:
        table.add_row("teacher", *_costs(results.scores.teacher, results.scores))
    for score in results.scores.students:
        table.add_row(score.name, *_costs(score.student, results.scores))
    table.caption = "times: the best measurement of all models that are built alike, as those of several seeds are"
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
        table.caption = "Not all on the same data: their accuracies do not compare."
    return table


def stages_table(results: PipelineResults) -> Table:
    """How each stage's result was come by."""
    table = Table(title=f"{results.id}: stages")
    for name in ("stage", "key", "result", "worker"):
        table.add_column(name)
    table.add_column("seconds", justify="right")
    for stage in results.stages:
        seconds = f"{stage.seconds:.1f}"
        table.add_row(stage.title, stage.key[:8], stage.outcome, stage.worker, seconds)
    return table


def plan_table(plan: Plan, store: ArtifactStore) -> Table:
    """The stages of a plan, their keys, and which are in the store."""
    table = Table(title=f"{plan.name}: plan")
    for name in ("stage", "kind", "key", "needs", "in the store"):
        table.add_column(name, overflow="fold", no_wrap=name == "key")
    titles = {stage.key: stage.title for stage in plan.stages}
    for stage in plan.stages:
        needs = dict.fromkeys(titles.get(ref.key, ref.kind) for ref in stage.inputs.values())
        there = Text("yes", "green") if stage.ref in store else "no"
        table.add_row(stage.title, stage.kind, stage.ref.short_key, ", ".join(needs), there)
    return table


def print_pipelines(console: Console, pipelines: Iterable[PipelineStatus | UnreadablePipeline]) -> None:
    """Print one row a pipeline, each soon after it is known; one that cannot be read has the reason in it."""
    columns = (
        Column("pipeline"),
        Column("state", max(map(len, STYLES)), styles=STYLES | {UNREADABLE: "red"}),
        Column("submitted"),
        Column("stages", right=True),
        Column("now", folds=True),
    )
    print_listing(console, columns, map(_pipeline_row, pipelines))


def _pipeline_row(status: PipelineStatus | UnreadablePipeline) -> tuple[str, ...]:
    if isinstance(status, UnreadablePipeline):
        return (status.id, UNREADABLE, "", "", status.why)
    done = sum(state.state == "done" for state in status.states.values())
    submitted = datetime.fromtimestamp(status.submitted, UTC).astimezone()
    return (status.id, status.state, f"{submitted:%Y-%m-%d %H:%M}", f"{done}/{len(status.states)}", _now(status))


def _now(status: PipelineStatus) -> str:
    """What a pipeline does, why it failed, or how good its students are."""
    report = status.states[status.plan.report.key].record
    if report:
        return report.record.summary
    running = (stage for stage in status.plan.stages if status.states[stage.key].state == "running")
    does = (f"{stage.title} {status.states[stage.key].progress}".rstrip() for stage in running)
    return shorten("; ".join(status.errors), LONGEST_ERROR, placeholder=" …") or "; ".join(does)


def workers_table(workers: list[WorkerEntry]) -> Table:
    """The workers that are there, and what they do."""
    table = Table()
    for name in ("worker", "host", "queues", "does", "torch", "store"):
        table.add_column(name)
    for worker in workers:
        versions = worker.versions.get("torch", "none")
        does = Text(worker.trouble, "red") if worker.trouble else worker.does or "waits for work"
        table.add_row(worker.name, worker.host, ", ".join(worker.queues), does, versions, worker.store)
    return table


def queues_table(states: list[QueueState]) -> Table:
    """What waits and runs; of a queue in which nothing is, one line."""
    table = Table()
    for name in ("queue", "priority", "waiting", "oldest", "running", "later", "workers"):
        table.add_column(name, justify="right" if name in ("waiting", "oldest", "running", "later") else "left")
    for state in states:
        if not (state.waiting or state.running or state.later or state.priority == "normal"):
            continue
        oldest = "" if state.oldest_seconds is None else duration_in_words(state.oldest_seconds)
        taken = ("?" if number is None else f"{number:,}" for number in (state.running, state.later))
        workers = ", ".join(state.workers) or "none"
        table.add_row(state.queue, state.priority, f"{state.waiting:,}", oldest, *taken, workers)
    table.caption = "oldest: how long the next one has waited · later: at a worker, to be tried again when it is due"
    if any(state.running is None for state in states):
        table.caption += "\n?: this user may not read what workers have taken: see docs/security.md"
    return table


def findings_table(findings: list[Finding]) -> Table:
    """What the doctor found, and what to do."""
    table = Table.grid(padding=(0, 2))
    marks = {"good": Text("✓", "green"), "warning": Text("!", "yellow"), "bad": Text("✗", "bold red")}
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, finding.detail, finding.advice)
    return table


def cache_table(cache: Cache) -> Table:
    """What a cache is of, and what its labels are worth."""
    header, record = cache.labels.header, cache.record
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    names = header.class_names
    shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    raw = header.views * header.samples * header.classes * 4
    rows = {
        "folder": str(cache.labels.folder),
        "rows": f"{header.samples:,} samples x {header.views:,} views",
        "classes": f"{header.classes:,}: {shown}",
        "stored as": f"{header.encoding.name}, {header.encoding.row_bytes(header.classes):,} bytes a row",
        "size": f"{header.size_bytes / 1e6:,.1f} MB, {header.size_bytes / raw:.0%} of float32",
        "data set": header.dataset_key or "not known",
        "teacher": header.teacher_key or "not known",
        "views": ", ".join(f"{name} {value}" for name, value in header.augmentation.items()) or "as they are",
    }
    if record:
        rows["accuracy"] = f"{record.accuracy:.2%} of the samples with a label"
    if record and record.confidence is not None:
        rows["confidence"] = f"{record.confidence:.2%} on average"
    if record and record.calibration_error is not None:
        rows["calibration"] = (
            f"off by {100 * record.calibration_error:.2f} points (expected calibration error, 15 bins)"
        )
    if record and record.entropy is not None:
        rows["entropy"] = f"{record.entropy:.4f} nats on average, at temperature 1"
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), value)
    return table


def check_line(check: Check) -> Text:
    """What was verified."""
    marks = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "yellow")}
    return Text.assemble(marks[check.passed], f" {check.name}: {check.detail}")


def head_table(
    probabilities: Floats, targets: npt.NDArray[np.integer[Any]], names: tuple[str, ...], kept: int
) -> Table:
    """The first classes of each row of probabilities `[rows, classes]`, of those that are kept, beside its label."""
    shown = min(3, kept)
    table = Table()
    table.add_column("sample", justify="right")
    for name in ("label", *("first", "second", "third")[:shown], "others"):
        table.add_column(name)
    for sample, (row, target) in enumerate(zip(probabilities, targets, strict=True)):
        order = (-row).argsort(kind="stable")
        first = (f"{names[index]} {row[index]:.2%}" for index in order[:shown])
        label = names[target] if target >= 0 else ""
        table.add_row(str(sample), label, *first, f"{row[order[shown:]].sum():.2%}")
    return table


def _choices(scores: tuple[StudentScore, ...]) -> Iterator[tuple[str, ChoiceRecord]]:
    """What was chosen from grids, and for whom."""
    for score in scores:
        for name, choice in ((score.name, score.choice), (f"{score.name}'s control", score.control_choice)):
            if choice:
                yield name, choice


def _table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("model")
    return table


def _scores(record: EvaluationRecord) -> tuple[str, ...]:
    return _mean_scores([record])


def _training(record: EvaluationRecord) -> str:
    return "" if record.training_seconds is None else f"{record.training_seconds:.1f} s"


def _mean_scores(records: list[EvaluationRecord]) -> tuple[str, ...]:
    accuracy = fmean(record.accuracy for record in records)
    likelihood = fmean(record.negative_log_likelihood for record in records)
    agreements = [record.agreement for record in records if record.agreement is not None]
    return f"{accuracy:.2%}", f"{likelihood:.3f}", f"{fmean(agreements):.2%}" if agreements else ""


def _mean_training(records: list[EvaluationRecord]) -> str:
    seconds = [record.training_seconds for record in records if record.training_seconds is not None]
    return f"{fmean(seconds):.1f} s" if seconds else ""


def _gain(mean: float | None, high: float | None) -> str:
    """A gain in points; over seeds with half of its interval."""
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
