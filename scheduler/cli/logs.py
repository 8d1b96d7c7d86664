"""The `distill logs` command: the lines that all workers logged about a pipeline."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_queue.scheduler.cli.options import PipelineId
from distill_queue.scheduler.terminal.output import Terminal, print_json
from distill_queue.shared.errors import UnreadableRecord

if TYPE_CHECKING:
    from rich.text import Text

    from distill_queue.shared.ledger.ledger import Ledger
    from distill_queue.shared.ledger.logs import LogLine
    from distill_queue.shared.plan.plan import Plan

app = typer.Typer()

STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
#: Characters of a title for which the first line has room already.
LONGEST_TITLE = 32
#: The most lines that can be asked for.
MOST_LINES = 1_000_000_000


@app.command()
def logs(
    pipeline: PipelineId,
    stage: Annotated[
        str | None, typer.Argument(metavar="STAGE", help="A stage's title or key, or the beginning of one.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the pipeline is finished.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, max=MOST_LINES, help="Begin with the last N lines.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what the workers logged and your own code printed while they worked on a pipeline."""
    from distill_queue.shared.broker.connection import connect
    from distill_queue.shared.ledger.ledger import Ledger
    from distill_queue.shared.ledger.logs import PipelineLogs
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spelling import pipeline_id

    settings = Settings.load()
    client = connect(settings)
    ledger, logs = Ledger(client, settings.history_seconds), PipelineLogs(client, settings.history_seconds)
    titles: dict[str, str] = {}
    wanted: set[str] | None = None
    try:
        plan = ledger.status(pipeline_id(pipeline)).plan
    except UnreadableRecord:  # The lines can be read without their stages' titles.
        if stage is not None:
            raise
    else:
        titles = {each.ref.short_key: each.title for each in plan.stages}
        wanted = None if stage is None else _keys_of(plan, stage)

    def lines() -> Iterator[LogLine]:
        there = list(logs.read(pipeline))
        shown = _about(there, wanted)
        yield from shown if tail is None else deque(shown, maxlen=tail)
        if follow:
            last = there[-1].place if there else ""
            yield from _about(logs.follow(pipeline, lambda: _is_finished(ledger, pipeline), last), wanted)

    if as_json:
        for line in lines():
            print_json(_facts(line, titles), indent=None)
            sys.stdout.flush()
        return
    console = Terminal(soft_wrap=True)
    for text in _in_columns(lines(), titles):
        console.print(text)


def _is_finished(ledger: Ledger, pipeline: str) -> bool:
    """Whether the pipeline will log no more lines, as far as this version can tell."""
    try:
        return ledger.status(pipeline).finished
    except UnreadableRecord:
        return True


def _about(lines: Iterable[LogLine], wanted: set[str] | None) -> Iterator[LogLine]:
    """The lines about the stages with some short keys; None stands for all lines."""
    return (line for line in lines if wanted is None or wanted & set(line.stages))


def _keys_of(plan: Plan, name: str) -> set[str]:
    """Short keys of the stages with a title or a key that is, or begins with, a name."""
    from distill_queue.shared.catalog import did_you_mean
    from distill_queue.shared.errors import InvalidSettings
    from distill_queue.shared.plan.stage import SHORTEST_KEY

    by_title = {stage.title.casefold(): stage.title for stage in plan.stages}
    begun = [title for folded, title in by_title.items() if folded.startswith(name.casefold())]
    exact = by_title.get(name.casefold())
    if len(begun) > 1 and not exact:
        raise InvalidSettings(f"'{name}': several stages begin so: {', '.join(begun)}")
    titles = [exact] if exact else begun
    found = {stage.ref.short_key for stage in plan.stages if stage.title in titles}
    if not found and len(name) >= SHORTEST_KEY:
        found = {stage.ref.short_key for stage in plan.stages if stage.key.startswith(name)}
    if not found:
        raise InvalidSettings(f"the pipeline has no stage '{name}'{did_you_mean(name, by_title.values())}")
    return found


def _facts(line: LogLine, titles: dict[str, str]) -> dict[str, Any]:
    facts = line.model_dump(mode="json", exclude={"stages", "place"})
    stages = [{"key": key, "title": titles.get(key, "")} for key in line.stages]
    return facts | {"stages": stages}


def _in_columns(lines: Iterable[LogLine], titles: dict[str, str]) -> Iterator[Text]:
    """Lines in columns for people; the columns grow as lines come in, as later lines are not known yet."""
    from rich.text import Text

    of_worker, of_stage = 0, min(LONGEST_TITLE, max(map(len, titles.values()), default=0))
    for line in lines:
        first = titles.get(line.stages[0], line.stages[0]) if line.stages else ""
        stage = f"{first} +{len(line.stages) - 1}" if len(line.stages) > 1 else first
        of_worker, of_stage = max(of_worker, len(line.worker)), max(of_stage, len(stage))
        time = f"{datetime.fromtimestamp(line.time, UTC).astimezone():%H:%M:%S}"
        head = f"{time}  {line.worker:{of_worker}}  {stage:{of_stage}}  "
        message = line.message.removeprefix(f"{first}: ").rstrip()
        indented = message.replace("\n", "\n" + " " * len(head))
        yield Text.assemble((head, "dim"), (indented, STYLES.get(line.level, "")))
