"""The `distill` command."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from distill_queue.scheduler.cli import exports, labels, logs, machines, pipelines, queues, report, specs, store, tune
from distill_queue.scheduler.terminal.output import Terminal, show_logs
from distill_queue.shared.errors import DistillError, StoreUnavailable
from distill_queue.shared.exit_code import ExitCode
from distill_queue.shared.text import plain_text

#: New objects after which Python collects garbage. A command is short and makes hardly any cycles: with the usual 700,
#: a third of the time of a long list goes into collecting.
OBJECTS_A_LOOK = 50_000
#: Errors of writing to a full or broken output.
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


class Commands(TyperGroup):
    """The commands; errors of options are made plain, and lose pydantic's prefix."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options that stand before a command."""
        with _plain_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was given."""
        with _plain_errors():
            return super().invoke(ctx)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Make typer's errors plain: they repeat given names of files, which could command the terminal."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            with suppress(AttributeError):  # Of some errors of other libraries it cannot be changed.
                error.message = plain_text(message.removeprefix("Value error, "))  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=Commands,
    help="""Queue knowledge-distillation pipelines, watch them, and scale their workers.

    Exit codes: 0 all went well; 1 something ended badly, as a pipeline that failed or an artifact that is damaged;
    2 what was given is wrong: an option, a spec, a setting, an id; 3 the broker or the store does not work for now;
    130 ended by Ctrl-C.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for commands in (specs, pipelines, tune, report, exports, logs, machines, queues):
    app.add_typer(commands.app)
app.add_typer(labels.app, name="labels")
app.add_typer(store.app, name="store")


def main() -> NoReturn:
    """Run the command; errors of input, broker or store are one message, never a traceback."""
    gc.set_threshold(OBJECTS_A_LOOK)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # A tree's lines and marks are not in every terminal's encoding.
    show_logs()
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()
    except DistillError as error:
        closed = isinstance(error, StoreUnavailable) and isinstance(error.__cause__, PermissionError)
        _print_error(f"{error}: 'distill doctor' says what this user cannot use, and why" if closed else error)
        sys.exit(ExitCode.of(error))
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS or error.filename is not None:
            raise
        _end_output()
        if error.errno != errno.EPIPE:  # The reader that closed the pipe has read enough.
            _print_error(f"the output cannot be written: {error.strerror}")
        sys.exit(ExitCode.BADLY)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.WELL)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"distill {version('distill-queue')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _print_error(error: object) -> None:
    Terminal(stderr=True, soft_wrap=True).print(f"error: {error}")


def _end_output() -> None:
    """Discard output that is not written yet: Python would try once more to write it when it ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
