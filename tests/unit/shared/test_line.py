"""Text of others cannot command the terminal or the log in which it is shown."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest

from distill_queue.scheduler.tables.tables import print_pipelines, workers_table
from distill_queue.scheduler.terminal.output import Terminal
from distill_queue.scheduler.watch import tree as live
from distill_queue.shared.ledger.status import PipelineStatus, StageState
from distill_queue.shared.ledger.workers import WorkerEntry
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
#: A line break, a command to a terminal, a turned direction, and rich's markup.
NASTY = "a\nERROR b \x1b]0;c\x07 \u202ed [bold red]e[/] [/bold]"


def shown(table: object) -> str:
    console = Terminal(file=StringIO(), width=400)
    console.print(table)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def listed(status: PipelineStatus) -> str:
    console = Terminal(file=StringIO(), width=400)
    print_pipelines(console, [status])
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def status(make_spec: MakeSpec) -> PipelineStatus:
    """A pipeline with hostile characters in each of its texts."""
    plan = Plan.of(make_spec())
    stages = [stage.model_dump() | {"title": NASTY} for stage in plan.stages]
    first = Stage.model_validate(stages[0])
    plan = plan.model_copy(update={"trunk": (first, *plan.trunk[1:])})
    state = StageState.model_validate({"state": "running", "progress": NASTY, "worker": NASTY})
    states = {stage.key: state for stage in plan.stages}
    return PipelineStatus(id="[bold]id", submitted=0.0, plan=plan, states=states)


def test_states_and_titles_are_one_plain_line(status: PipelineStatus) -> None:
    text = shown(live.Stages(status)) + listed(status)

    assert r"a ERROR b \x1b]0;c\x07 \u202ed [bold red]e[/] [/bold]" in text
    assert "[bold]id" in text
    assert not any(character in text for character in "\x1b\x07\u202e")


def test_a_worker_describes_itself_in_one_plain_line() -> None:
    entry = WorkerEntry.of_this_process(NASTY, (NASTY,), NASTY, NASTY)

    text = shown(workers_table([WorkerEntry.model_validate_json(entry.model_dump_json())]))

    assert text.count("[bold red]e[/] [/bold]") == 4
    assert not any(character in text for character in "\x1b\x07\u202e")


def test_an_error_keeps_its_lines() -> None:
    assert StageState(error="one\ntwo\x1b").error == r"one" "\n" r"two\x1b"


def test_a_list_of_pipelines_has_the_beginning_of_an_error_only(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    failed = StageState(state="failed", error="prepare mine: RuntimeError: " + "word " * 2000)
    states = {stage.key: StageState(state="blocked") for stage in plan.stages} | {plan.stages[0].key: failed}

    text = listed(PipelineStatus(id="long", submitted=0.0, plan=plan, states=states))

    assert len(text.splitlines()) == 2
    assert "prepare mine: RuntimeError: word word" in text
    assert "word …" in text
