"""The `distill` commands about machines: a stack here, workers anywhere. Imports late: `--help` answers at once."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_queue.scheduler.cli.options import AsJson, Workers, console
from distill_queue.scheduler.terminal.output import print_json
from distill_queue.shared.catalog import QUEUES
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.exit_code import ExitCode
from distill_queue.shared.line import shortened
from distill_queue.shared.spelling import WORKER_NAME

if TYPE_CHECKING:
    from distill_queue.scheduler.stack.devices import Device

app = typer.Typer()


@app.command()
def up(
    workers: Workers = 1,
    flower_port: Annotated[int, typer.Option(min=1, max=65535, help="Flower's port on 127.0.0.1.")] = 5555,
) -> None:
    """Start a server, workers and Flower, and keep them until Ctrl-C."""
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of

    settings = Settings.load()
    settings = settings.model_copy(update={"data": settings.data or (Path.cwd(),)})
    store_of(settings).check_writable()
    folder = (settings.folder / "server").absolute()
    with LocalStack(settings, workers=workers, flower_port=flower_port, server_folder=folder) as stack:
        console.print(f"Broker  {settings.broker_address}")
        console.print(f"Flower  http://127.0.0.1:{flower_port}")
        for address in stack.metrics:
            console.print(f"Metrics {address}")
        console.print(f"Logs    {settings.folder / 'logs'}")
        console.print("In another terminal: distill submit SPEC. Ctrl-C stops all of it.")
        while True:
            if given_up := stack.tend():
                console.print(f"Flower  is given up, the rest goes on: {given_up}")
            time.sleep(0.5)


@app.command()
def worker(
    devices: Annotated[
        str, typer.Option(help="Start a worker each for: auto, cpu, cpu:4, cuda:0,1 or several, as cpu:2+cuda:0.")
    ] = "auto",
    queues: Annotated[
        str | None, typer.Option(help=f"Queues to serve, of {', '.join(QUEUES)}, in place of the devices' own.")
    ] = None,
    name: Annotated[str, typer.Option(help="How the workers' names begin: NAME-DEVICE@HOST.")] = "worker-%i",
) -> None:
    """Start workers here for the broker in DISTILL_BROKER_URL, one a device, and keep them until told to end."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.devices import devices as devices_of
    from distill_queue.scheduler.stack.fleet import Fleet
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of

    if fault := WORKER_NAME.fault(name):
        raise InvalidSettings(f"--name: {fault}")
    settings = Settings.load()
    found = devices_of(devices, settings.threads)
    if queues is not None:
        found = tuple(replace(device, queues=_queues(queues, device)) for device in found)
    store_of(settings).check_writable()
    PipelineClient(settings)
    unique = name.replace("%i", str(os.getpid()))
    fleet = Fleet.of(found, unique, lambda line: console.print(line, soft_wrap=True), settings.metrics_port)
    try:
        while True:
            fleet.tend()
            time.sleep(0.2)
    finally:
        if fleet.berths:
            console.print("Ending: the workers hand back their stages")
        fleet.end()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def flower(context: typer.Context) -> None:
    """Start Flower here for the broker in DISTILL_BROKER_URL; takes Flower's own options, as --port=5556."""
    from distill_queue.scheduler.stack.child import celery_command
    from distill_queue.scheduler.stack.local import FLOWER_SETTINGS

    command = celery_command("flower", f"--conf={FLOWER_SETTINGS}", "--address=127.0.0.1", *context.args)
    os.execv(command[0], command)


@app.command("workers")
def workers_command(as_json: AsJson = False) -> None:
    """List the workers that are there, and what they do."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.tables.tables import workers_table

    entries = PipelineClient().workers()
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        console.print(workers_table(entries))


@app.command()
def doctor() -> None:
    """Examine settings, broker, store and workers, and say how to mend what is wrong."""
    from distill_queue.scheduler.maintenance.doctor import examine
    from distill_queue.scheduler.tables.tables import findings_table
    from distill_queue.shared.settings import Settings

    findings = list(examine(Settings.load()))
    console.print(findings_table(findings))
    if bad := {finding.subject for finding in findings if finding.state == "bad"}:
        raise typer.Exit(ExitCode.BROKEN_WORLD if bad & {"broker", "store"} else ExitCode.BADLY)


def _queues(text: str, device: Device) -> tuple[str, ...]:
    """The queues of an option that a device can serve."""
    queues = tuple(text.split(","))
    for queue in queues:
        if queue not in QUEUES:
            raise InvalidSettings(f"--queues: unknown queue '{shortened(queue, 60)}' (known: {', '.join(QUEUES)})")
        if queue == "gpu" and not device.gpu:
            raise InvalidSettings(f"--queues: '{device.name}' is no GPU: it cannot serve the queue 'gpu'")
    return queues
