"""Tables of plans and their stages, pipelines, workers, queues, and what the doctor found."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill_queue.scheduler.terminal.listing import Column, print_listing
from distill_queue.scheduler.watch.tree import STYLES
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.ledger.status import PipelineStatus, State, UnreadablePipeline, duration_in_words
from distill_queue.shared.ledger.workers import WorkerEntry
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.store.store import ArtifactStore

if TYPE_CHECKING:  # These load numpy or Celery, which a list of pipelines does without.
    from distill_queue.scheduler.maintenance.finding import Finding
    from distill_queue.shared.ledger.queues import QueueState

#: Characters of an error in the list of pipelines; 'distill status ID' has all of it.
LONGEST_ERROR = 80
#: State of a pipeline that this version cannot read.
UNREADABLE = "unreadable"


def stages_table(results: PipelineResults) -> Table:
    """A pipeline's stages, and whether each result was computed or found."""
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
    """Print a row for each pipeline as soon as it is known; the row of an unreadable one says why."""
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
    done = sum(state.state == State.DONE for state in status.states.values())
    submitted = datetime.fromtimestamp(status.submitted, UTC).astimezone()
    return (status.id, status.state, f"{submitted:%Y-%m-%d %H:%M}", f"{done}/{len(status.states)}", _now(status))


def _now(status: PipelineStatus) -> str:
    """What a pipeline does now, why it failed, or how good its students are."""
    report = status.states[status.plan.report.key].record
    if report:
        return report.record.summary
    running = (stage for stage in status.plan.stages if status.states[stage.key].state == State.RUNNING)
    does = (f"{stage.title} {status.states[stage.key].progress}".rstrip() for stage in running)
    return shorten("; ".join(status.errors), LONGEST_ERROR, placeholder=" …") or "; ".join(does)


def workers_table(workers: list[WorkerEntry]) -> Table:
    """The workers on the roster, and what they do."""
    table = Table()
    for name in ("worker", "host", "queues", "does", "torch", "store"):
        table.add_column(name)
    for worker in workers:
        versions = worker.versions.get("torch", "none")
        does = Text(worker.trouble, "red") if worker.trouble else worker.does or "waits for work"
        table.add_row(worker.name, worker.host, ", ".join(worker.queues), does, versions, worker.store)
    return table


def queues_table(states: list[QueueState]) -> Table:
    """What waits and runs by queue and priority; one line for an empty queue."""
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
