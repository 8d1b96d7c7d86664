"""The `distill` command about queues. Imports late: `--help` answers at once."""

from __future__ import annotations

import typer

from distill_queue.scheduler.cli.options import AsJson, console
from distill_queue.scheduler.terminal.output import print_json

app = typer.Typer()


@app.command()
def queues(as_json: AsJson = False) -> None:
    """Show what waits and runs by queue and priority, and which workers serve it."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.tables.tables import queues_table

    states = PipelineClient().queues()
    if as_json:
        print_json([state.model_dump(mode="json") for state in states])
    else:
        console.print(queues_table(states))
