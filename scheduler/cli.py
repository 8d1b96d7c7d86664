"""The `distill` command."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from rich.console import Console

from scheduler import labels, logs, machines, pipelines, reports, specs, stores
from shared.errors import DistillError, InvalidInput, Unavailable, UnknownPipeline

app = typer.Typer(
    help="""Queue knowledge-distillation pipelines, watch them, and scale their workers.

    Exit codes: 0 all went well; 1 something ended badly, as a pipeline that failed or an artifact that is damaged;
    2 what was given is wrong: an option, a spec, a setting, an id; 3 the broker or the store does not work for now;
    130 ended by Ctrl-C.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for commands in (specs, pipelines, reports, logs, machines):
    app.add_typer(commands.app)
app.add_typer(labels.app, name="labels")
app.add_typer(stores.app, name="store")


def main() -> NoReturn:
    """Run the command; errors of the user's or the world's are one message, never a traceback."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        app(standalone_mode=True)
    except DistillError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _exit_code(error: DistillError) -> int:
    match error:
        case InvalidInput() | UnknownPipeline():
            return 2
        case Unavailable():
            return 3
        case _:
            return 1
