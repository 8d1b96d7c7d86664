"""A pipeline's stages as a tree, once or again and again while they are done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from scheduler import waiting
from shared.plan import Plan
from shared.stage import Bundle, Stage
from shared.status import PipelineStatus, StageState, in_words

MARKS = {"cancelled": "–", "waiting": "·", "running": "▶", "done": "✓", "failed": "✗", "blocked": "–"}
STYLES = {
    "cancelled": "dim",
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "failed": "bold red",
    "blocked": "dim",
}
#: Seconds between two lines about the progress of a stage, where lines are all there is.
LINE_SECONDS = 5.0
BAR_WIDTH = 12


def follow(statuses: Iterable[PipelineStatus], console: Console) -> None:
    """Show a pipeline while there are statuses of it: as a live tree, or in lines where there is no terminal."""
    if not (console.is_terminal or console.is_jupyter):
        _print_lines(statuses, console)
        return
    with Live(console=console, refresh_per_second=8, vertical_overflow="visible") as live:
        for status in statuses:
            live.update(stages_of(status))


def stages_of(status: PipelineStatus, served: Mapping[str, bool] | None = None) -> Group:
    """Where a pipeline and each of its stages stand; `served` is as for `waiting.reasons`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    reasons = waiting.reasons(status, served)
    for branch, stage in tree(status.plan):
        state = status.states[stage.key]
        mark = f"[{STYLES[state.state]}]{MARKS[state.state]}[/]"
        name = f"{mark} [dim]{branch}[/]{escape(stage.title)}"
        bar = ProgressBar(1.0, state.share, width=BAR_WIDTH) if state.share is not None else ""
        does = f"[dim]{escape(reasons[stage.key])}[/]" if stage.key in reasons else escape(describe(state))
        table.add_row(name, bar, does, _seconds(state), f"[dim]{escape(state.worker)}[/]")
    done = sum(state.state == "done" for state in status.states.values())
    ago = in_words(max(0.0, time.time() - status.submitted))
    head = f"[bold]{escape(status.id)}[/]  [{STYLES[status.state]}]{status.state}[/]"
    return Group(f"{head}  {done} of {len(status.states)} stages, submitted {ago} ago", table)


def describe(state: StageState) -> str:
    """A stage's state in a few words."""
    if state.record:
        return f"{state.record.outcome} · {state.record.record.summary}"
    return state.error or state.progress or state.state


def tree(plan: Plan) -> Iterator[tuple[str, Stage]]:
    """The stages in the plan's order, each behind the lines that lead to it: a branch below what it waits for."""
    first, *trunk = plan.trunk
    yield "", first
    yield from _side_by_side([[(stage,)] for stage in plan.teachers])
    yield from (("", stage) for stage in trunk)
    yield from _side_by_side(plan.branches)
    yield from (("", stage) for bundle in plan.tail for stage in bundle)
    yield "", plan.report


def _side_by_side(branches: Collection[Collection[Bundle]]) -> Iterator[tuple[str, Stage]]:
    """Each model of each branch, and below it what is done with it."""
    lines = [
        (stage, [each for bundle in others for each in bundle if stage.ref in each.inputs.values()])
        for first, *others in branches
        for stage in first
    ]
    for number, (stage, below) in enumerate(lines, start=1):
        last = number == len(lines)
        yield "└─ " if last else "├─ ", stage
        yield from (("   └─ " if last else "│  └─ ", each) for each in below)


def _seconds(state: StageState) -> str:
    if state.record:
        return f"{state.record.seconds:.1f} s"
    return "" if state.began is None else f"{max(0.0, time.time() - state.began):.0f} s"


def _print_lines(statuses: Iterable[PipelineStatus], console: Console) -> None:
    """Print what became of each stage at once, and its progress now and then."""
    seen: dict[str, tuple[str, float]] = {}
    for status in statuses:
        now = time.monotonic()
        for stage in status.plan.stages:
            state = status.states[stage.key]
            before, since = seen.get(stage.key, ("waiting", 0.0))
            goes_on = state.state == before
            if goes_on and (state.state != "running" or now - since < LINE_SECONDS):
                continue
            seen[stage.key] = state.state, now
            line = f"{MARKS[state.state]} {stage.title}: {describe(state)}"
            console.print(line, markup=False, soft_wrap=True)
