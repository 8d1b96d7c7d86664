"""The `distill` commands about machines: a stack here, workers anywhere. Imports late: `--help` answers at once."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from scheduler.options import AsJson, Workers, console, print_json
from shared.catalog import QUEUES
from shared.errors import InvalidSettings

app = typer.Typer()


@app.command()
def up(
    workers: Workers = 1,
    flower_port: Annotated[int, typer.Option(min=1, max=65535, help="Flower's port on 127.0.0.1.")] = 5555,
) -> None:
    """Start a server, workers and Flower, and keep them until Ctrl-C."""
    from scheduler.local import LocalStack
    from shared.settings import Settings
    from shared.store import ArtifactStore

    settings = Settings.load()
    ArtifactStore(settings.store).check_writable()
    folder = (settings.store / "server").absolute()
    with LocalStack(settings, workers=workers, flower_port=flower_port, server_folder=folder) as stack:
        console.print(f"Broker  {settings.broker_address}")
        console.print(f"Flower  http://127.0.0.1:{flower_port}")
        console.print(f"Logs    {settings.store / 'logs'}")
        console.print("In another terminal: distill submit SPEC. Ctrl-C stops all of it.")
        while True:
            stack.tend()
            time.sleep(0.5)


@app.command()
def worker(
    queues: Annotated[str, typer.Option(help=f"Queues to serve, of {', '.join(QUEUES)}.")] = "cpu,any",
    name: Annotated[str, typer.Option(help="The worker's name; %h is this host.")] = "worker-%i@%h",
) -> None:
    """Start one worker for the broker in DISTILL_BROKER_URL."""
    from scheduler.client import PipelineClient
    from scheduler.local import celery_command
    from shared.settings import Settings
    from shared.store import ArtifactStore

    unknown = [queue for queue in queues.split(",") if queue not in QUEUES]
    if unknown:
        raise InvalidSettings(f"--queues: unknown queue '{unknown[0]}' (known: {', '.join(QUEUES)})")
    settings = Settings.load()
    ArtifactStore(settings.store).check_writable()
    PipelineClient(settings)
    unique = name.replace("%i", str(os.getpid()))
    os.execv(sys.executable, celery_command("worker", "-Q", queues, "-n", unique, "-l", "INFO"))


@app.command("workers")
def workers_command(as_json: AsJson = False) -> None:
    """List the workers that are there, and what they do."""
    from scheduler import report
    from scheduler.client import PipelineClient

    entries = PipelineClient().workers()
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        console.print(report.workers_table(entries))


@app.command()
def doctor() -> None:
    """Look at settings, broker, store and workers, and say what to do about what is wrong."""
    from scheduler import report
    from scheduler.doctor import examine
    from shared.settings import Settings

    findings = list(examine(Settings.load()))
    console.print(report.findings_table(findings))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
