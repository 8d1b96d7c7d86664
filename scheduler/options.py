"""Options and arguments that several commands have; imports little, so that `--help` answers at once."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from shared.errors import InvalidSettings

#: Columns of tables that go into a pipe or a file, where nobody sees them cut off.
PIPE_COLUMNS = 200

console = Console(
    emoji=False, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
)


def known_ids(incomplete: str) -> list[str]:
    """Ids of pipelines, for a shell that completes one; none where the broker does not answer."""
    from scheduler.client import PipelineClient
    from shared.errors import DistillError

    try:
        return [pipeline for pipeline in PipelineClient().ids() if pipeline.startswith(incomplete)]
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
    typer.Option(help="Before or after what else waits in its queue; a spec may say it too."),
]
PipelineId = Annotated[
    str,
    typer.Argument(metavar="ID", help="A pipeline's id, as 'distill submit' printed it.", autocompletion=known_ids),
]
PipelineIds = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Ids, as 'distill submit' printed them.", autocompletion=known_ids)
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_json_list(values: Iterable[Any]) -> None:
    """Print a list of values as JSON, one after the other, so that there may be many."""
    written = 0
    for written, value in enumerate(values, start=1):
        text = json.dumps([value], indent=1, ensure_ascii=False)
        typer.echo(("[\n" if written == 1 else ",\n") + text.removeprefix("[\n").removesuffix("\n]"), nl=False)
    typer.echo("\n]" if written else "[]")


def print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows that have the same keys as comma-separated values, with a line of names first."""
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def not_both(as_json: bool, as_csv: bool) -> None:
    """Refuse two formats at once."""
    if as_json and as_csv:
        raise InvalidSettings("--json and --csv: choose one")
