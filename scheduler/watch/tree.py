"""A pipeline's stages as a tree, once or again and again while they are done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distill_queue.scheduler.watch import waiting
from distill_queue.scheduler.watch.lines import Lines
from distill_queue.scheduler.watch.waiting import Served
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.ledger.status import PipelineStatus, StageState, State, duration_in_words
from distill_queue.shared.plan.course import Branch
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import DataWarning

MARKS = {
    State.CANCELLED: "–",
    State.WAITING: "·",
    State.RUNNING: "▶",
    State.DONE: "✓",
    State.FAILED: "✗",
    State.BLOCKED: "–",
}
STYLES = {
    State.CANCELLED: "dim",
    State.WAITING: "dim",
    State.RUNNING: "cyan",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.BLOCKED: "dim",
}
WARNING_MARK = "!"
#: Seconds between two looks at the queues that workers serve.
LOOK_SECONDS = 5.0
BAR_WIDTH = 12
#: Columns of a terminal below which bars and workers are left out.
WIDE = 100
#: The states in the order in which their stages are shown if there is no room for all.
TELLING = (State.FAILED, State.RUNNING, State.WAITING, State.DONE, State.CANCELLED, State.BLOCKED)


def follow(statuses: Iterable[PipelineStatus], console: Console, look: Callable[[], Served] = lambda: None) -> None:
    """Show a pipeline as long as statuses of it come: as a live tree, or in lines where there is no terminal."""
    followed = _with_served(statuses, look)
    if not (console.is_terminal or console.is_jupyter):
        _print_lines(followed, console)
        return
    with Live(console=console, refresh_per_second=8, vertical_overflow="crop") as live:
        for status, served in followed:
            live.update(Stages(status, served, fit=console.is_terminal))


def _with_served(
    statuses: Iterable[PipelineStatus], look: Callable[[], Served]
) -> Iterator[tuple[PipelineStatus, Served]]:
    """Each status and, while no stage has begun, the queues that workers serve."""
    served, looked = None, time.monotonic()  # Workers may be starting just now.
    for status in statuses:
        if status.state == State.WAITING and time.monotonic() > looked + LOOK_SECONDS:
            looked = time.monotonic()
            with suppress(BrokerUnavailable):
                served = look()
        yield status, served


@dataclass(frozen=True, slots=True)
class Stages:
    """How far a pipeline and its stages are: as wide as the terminal, and if `fit` no higher."""

    status: PipelineStatus
    served: Served = None
    fit: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        status, width = self.status, options.max_width
        done = sum(state.state == State.DONE for state in status.states.values())
        ago = duration_in_words(max(0.0, time.time() - status.submitted))
        stands = f"  {done} of {len(status.states)} stages, submitted {ago} ago"
        yield Text.assemble((status.id, "bold"), "  ", (status.state, STYLES[status.state]), stands)
        # Room for the line above, the cursor's line, and the line that says what is left out.
        warnings = [warned(warning, fit=self.fit) for warning in status.warnings if not warning.accepted]
        rows, left_out = _most_telling(status, console.height - 3 - len(warnings) if self.fit else None)
        longest = max(len(f"✓ {branch}{stage.title}") for branch, stage in rows)
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, width=min(longest, width // 2), overflow="ellipsis")
        if width >= WIDE:
            table.add_column()
        # `status ID` shows the whole text of a line that is cut off.
        table.add_column(ratio=1, no_wrap=self.fit, overflow="ellipsis" if self.fit else "fold")
        table.add_column(justify="right", no_wrap=True)
        if width >= WIDE:
            table.add_column(no_wrap=True, max_width=width // 4, overflow="ellipsis")
        reasons = waiting.reasons(status, self.served)
        for branch, stage in rows:
            table.add_row(*self._cells(branch, stage, reasons.get(stage.key), wide=width >= WIDE))
        yield table
        if left_out:
            yield Text(f"… and {', '.join(f'{count} {state}' for state, count in left_out.items())}", "dim")
        yield from warnings

    def _cells(self, branch: str, stage: Stage, reason: str | None, *, wide: bool) -> Iterator[RenderableType]:
        state = self.status.states[stage.key]
        yield Text.assemble((MARKS[state.state], STYLES[state.state]), " ", (branch, "dim"), stage.title)
        if wide:
            yield ProgressBar(1.0, state.share, width=BAR_WIDTH) if state.share is not None else ""
        # One line is enough: the tree shows which stages it waits for.
        brief = reason is not None and reason.startswith(("waits for", "never"))
        yield Text(
            reason or _does(stage, state),
            "dim" if reason else "",
            no_wrap=brief or None,
            overflow="ellipsis" if brief else None,
        )
        yield _seconds(state)
        if wide:
            yield Text(state.worker, "dim")


def _most_telling(status: PipelineStatus, room: int | None) -> tuple[list[tuple[str, Stage]], Counter[str]]:
    """The stages' rows in the plan's order, at most so many, and how many are left out by state.

    Failed and running stages come first, then those that are next, then those that were done last.
    """
    rows = list(tree(status.plan))
    if room is None or len(rows) <= room:
        return rows, Counter()
    states = [status.states[stage.key].state for _, stage in rows]
    order = sorted(
        range(len(rows)),
        key=lambda row: (TELLING.index(states[row]), -row if states[row] == State.DONE else row),
    )
    kept = sorted(order[: max(room, 1)])
    return [rows[row] for row in kept], Counter(states[row] for row in order[max(room, 1) :])


def describe(state: StageState) -> str:
    """A stage's state in a few words."""
    if state.record:
        return f"{state.record.outcome} · {state.record.record.summary}"
    return state.error or state.progress or state.state


def _does(stage: Stage, state: StageState) -> str:
    """A stage's state in words, without its title, which errors begin with."""
    return describe(state).removeprefix(f"{stage.title}: ")


def tree(plan: Plan) -> Iterator[tuple[str, Stage]]:
    """The stages in the plan's order, each with the tree's lines before it: a stage stands below what it waits for."""
    for step in plan.course:
        if step.alone:
            yield from (("", stage) for bundle in step.bundles for stage in bundle)
        else:
            yield from _side_by_side(step.branches)


def _side_by_side(branches: Iterable[Branch]) -> Iterator[tuple[str, Stage]]:
    """Each model of each branch, and below it the stages that use it."""
    lines = [
        (stage, [each for bundle in others for each in bundle if stage.ref in each.inputs.values()])
        for first, *others in branches
        for stage in first
    ]
    for number, (stage, below) in enumerate(lines, start=1):
        last = number == len(lines)
        yield "└─ " if last else "├─ ", stage
        yield from (("   └─ " if last else "│  └─ ", each) for each in below)


def warned(warning: DataWarning, *, fit: bool = False) -> Text:
    """A warning as text; `fit` cuts it to one line, as `status ID` shows all of it."""
    return Text(f"{WARNING_MARK} {warning}", "yellow", no_wrap=fit or None, overflow="ellipsis" if fit else "fold")


def _seconds(state: StageState) -> str:
    if state.record:
        return f"{state.record.seconds:.1f} s"
    return "" if state.began is None else f"{max(0.0, time.time() - state.began):.0f} s"


def _print_lines(followed: Iterable[tuple[PipelineStatus, Served]], console: Console) -> None:
    """Print new states of stages at once, their progress now and then, and whether no worker serves the queue."""
    lines, unserved = Lines(_does), ""
    for status, served in followed:
        if (why := waiting.unserved(status, served)) != unserved:
            unserved = why
            if why:
                console.print(f"{MARKS[State.WAITING]} {why}", soft_wrap=True)
        for line in lines(status):
            text = f"{MARKS[line.state.state]} {line.subject}: {line.words}"
            console.print(text, soft_wrap=True)
            for warning in chain.from_iterable(map(status.warnings_of, line.stages)):
                if not warning.accepted:
                    console.print(warned(warning), soft_wrap=True)
