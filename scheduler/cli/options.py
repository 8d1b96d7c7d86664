"""Options and arguments that several commands have; imports little, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from distill_queue.scheduler.terminal.output import Terminal
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.text import plain_line

#: Columns of tables that go into a pipe or a file, where no terminal cuts them off.
PIPE_COLUMNS = 200

console = Terminal(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS)


def known_ids(incomplete: str) -> list[str]:
    """Ids of pipelines, for a shell that completes one; none where the broker does not answer."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.shared.errors import DistillError

    try:
        return [plain_line(pipeline) for pipeline in PipelineClient().ids() if pipeline.startswith(incomplete)]
    except DistillError:
        return []


SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="A pipeline's spec: .yaml, .toml or .json.")]
SpecPaths = Annotated[list[Path], typer.Argument(metavar="SPEC…", help="Specs: .yaml, .toml or .json.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value first, as students.0.distillation.temperature=2."),
]
Priority = Annotated[
    Literal["low", "normal", "high"] | None,
    typer.Option(help="Before or after other pipelines in its queue; a spec may say it too."),
]
PipelineId = Annotated[
    str,
    typer.Argument(metavar="ID", help="A pipeline's id, as 'distill submit' printed it.", autocompletion=known_ids),
]
PipelineIds = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Ids, as 'distill submit' printed them.", autocompletion=known_ids)
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")]
BestWorkers = Annotated[
    int | None,
    typer.Option(
        min=1, max=64, help="Worker processes to start.", show_default="one, or as many as train small models soonest"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]


def not_both(as_json: bool, as_csv: bool) -> None:
    """Refuse two formats at once."""
    if as_json and as_csv:
        raise InvalidSettings("--json and --csv: choose one")
