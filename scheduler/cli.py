"""The `distill` command."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live

from scheduler import labels, report, specs
from scheduler.client import PipelineClient
from scheduler.doctor import examine
from scheduler.local import LocalStack, celery_command
from scheduler.specs import AsJson, Changes, SpecPath, SpecPaths
from shared.broker import QUEUES
from shared.errors import DistillError, InvalidInput, InvalidSettings
from shared.plan import Plan
from shared.records import PipelineResults, PipelineStatus, facts_of
from shared.settings import Settings
from shared.spec import PipelineSpec
from shared.store import ArtifactStore

app = typer.Typer(
    help="Queue knowledge-distillation pipelines, watch them, and scale their workers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(specs.app)
app.add_typer(labels.app, name="labels")
console = Console(highlight=False)

PipelineId = Annotated[str, typer.Argument(metavar="ID", help="A pipeline's id, as 'distill submit' printed it.")]
JsonPath = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")]


def main() -> NoReturn:
    """Run the command; errors of the user's or the world's are one message, never a traceback."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        app(standalone_mode=True)
    except DistillError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


@app.command()
def run(
    spec: SpecPath,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")] = 1,
    changes: Changes = None,
    json_path: JsonPath = None,
) -> None:
    """Run a pipeline here and now: starts a server and workers, and stops them at the end."""
    settings = Settings.load()
    pipeline_spec = PipelineSpec.load(spec, changes or ())
    Plan.of(pipeline_spec)
    ArtifactStore(settings.store).check_writable()
    with LocalStack(settings, workers=workers) as stack:
        client = PipelineClient(stack.settings)
        pipeline = client.submit(pipeline_spec)
        _follow(client, pipeline, stack)
        results = client.results(pipeline)
        stack.idle = True
    _show(results)
    path = json_path or settings.store / "reports" / f"{pipeline}.json"
    _write_json(results, path)
    console.print(f"Report: {path}")


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")] = 1,
    flower_port: Annotated[int, typer.Option(min=1, max=65535, help="Flower's port on 127.0.0.1.")] = 5555,
) -> None:
    """Start a server, workers and Flower, and keep them until Ctrl-C."""
    settings = Settings.load()
    ArtifactStore(settings.store).check_writable()
    folder = (settings.store / "server").absolute()
    with LocalStack(settings, workers=workers, flower_port=flower_port, server_folder=folder) as stack:
        console.print(f"Broker  {settings.broker_address}")
        console.print(f"Flower  http://127.0.0.1:{flower_port}")
        for address in stack.metrics:
            console.print(f"Metrics {address}")
        console.print(f"Logs    {settings.store / 'logs'}")
        console.print("In another terminal: distill submit SPEC. Ctrl-C stops all of it.")
        while True:
            stack.tend()
            time.sleep(0.5)


@app.command()
def submit(
    specs: SpecPaths,
    changes: Changes = None,
    follow: Annotated[bool, typer.Option("--watch", help="Follow them to their ends, and show the results.")] = False,
) -> None:
    """Enqueue pipelines and print their ids; all specs are read before the first one is sent."""
    settings = Settings.load()
    read = [PipelineSpec.load(path, changes or ()) for path in specs]
    client = PipelineClient(settings)
    pipelines = [client.submit(spec) for spec in read]
    for pipeline in pipelines:
        typer.echo(pipeline)
    for pipeline in pipelines if follow else ():
        _follow(client, pipeline)
        _show(client.results(pipeline))


@app.command()
def retry(pipeline: PipelineId) -> None:
    """Submit a pipeline again as it was, under a new id: what it has is found, what failed is tried again."""
    typer.echo(PipelineClient().retry(pipeline))


@app.command()
def status(pipeline: Annotated[str | None, typer.Argument(metavar="[ID]")] = None, as_json: AsJson = False) -> None:
    """List the pipelines, or show where the stages of one stand."""
    client = PipelineClient()
    found = client.pipelines() if pipeline is None else [client.status(pipeline)]
    if as_json:
        facts = [facts_of(status) for status in found]
        typer.echo(json.dumps(facts if pipeline is None else facts[0], indent=1))
    elif pipeline is None:
        console.print(report.pipelines_table(found))
    else:
        console.print(f"{found[0].id}: {found[0].state}")
        console.print(report.stages_of(found[0]))


@app.command()
def workers(as_json: AsJson = False) -> None:
    """List the workers that are there, and what they do."""
    client = PipelineClient()
    entries, busy = client.workers(), client.busy()
    if as_json:
        facts = [entry.model_dump(mode="json") | {"does": busy.get(entry.name, "")} for entry in entries]
        typer.echo(json.dumps(facts, indent=1))
        return
    console.print(report.workers_table(entries, busy))


@app.command()
def watch(pipeline: PipelineId) -> None:
    """Follow a pipeline until it ends, and show its results."""
    client = PipelineClient()
    _follow(client, pipeline)
    _show(client.results(pipeline))


@app.command()
def cancel(pipeline: PipelineId) -> None:
    """Stop a pipeline: what is finished stays, stages that another pipeline needs go on."""
    PipelineClient().cancel(pipeline)
    console.print(f"Cancelled {pipeline}")


@app.command()
def recover() -> None:
    """Send again every unfinished pipeline that the store knows and the broker has forgotten."""
    recovered = PipelineClient().recover()
    for pipeline in recovered:
        typer.echo(pipeline)
    console.print(f"{len(recovered)} pipelines recovered")


@app.command()
def doctor() -> None:
    """Look at settings, broker, store and workers, and say what to do about what is wrong."""
    findings = list(examine(Settings.load()))
    console.print(report.findings_table(findings))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


@app.command()
def results(pipeline: PipelineId, json_path: JsonPath = None) -> None:
    """Show what came out of a finished pipeline."""
    found = PipelineClient().results(pipeline)
    if json_path:
        _write_json(found, json_path)
    else:
        _show(found)


@app.command()
def worker(
    queues: Annotated[str, typer.Option(help=f"Queues to serve, of {', '.join(QUEUES)}.")] = "cpu,any",
    name: Annotated[str, typer.Option(help="The worker's name; %h is this host.")] = "worker-%i@%h",
) -> None:
    """Start one worker for the broker in DISTILL_BROKER_URL."""
    unknown = [queue for queue in queues.split(",") if queue not in QUEUES]
    if unknown:
        raise InvalidSettings(f"--queues: unknown queue '{unknown[0]}' (known: {', '.join(QUEUES)})")
    settings = Settings.load()
    ArtifactStore(settings.store).check_writable()
    PipelineClient(settings)
    unique = name.replace("%i", str(os.getpid()))
    os.execv(sys.executable, celery_command("worker", "-Q", queues, "-n", unique, "-l", "INFO"))


def _follow(client: PipelineClient, pipeline: str, stack: LocalStack | None = None) -> None:
    """Show a pipeline's progress until it is finished: a live view, or plain lines where there is no terminal."""
    console.print(f"Pipeline {pipeline}")
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8) as live:
            for status in client.watch(pipeline):
                live.update(report.stages_of(status))
                if stack:
                    stack.tend()
        return
    seen: dict[str, str] = {}
    for status in client.watch(pipeline):
        _print_changes(status, seen)
        if stack:
            stack.tend()


def _print_changes(status: PipelineStatus, seen: dict[str, str]) -> None:
    for stage in status.plan.stages:
        state = status.states[stage.key]
        line = f"{report.MARKS[state.state]} {stage.title}: {report.describe_state(state)}"
        if state.state != "waiting" and seen.get(stage.key) != line:
            seen[stage.key] = line
            console.print(line, markup=False, soft_wrap=True)


def _show(results: PipelineResults) -> None:
    console.print(report.stages_table(results))
    console.print(report.scores_table(results))
    console.print(report.costs_table(results))


def _write_json(results: PipelineResults, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(results.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise InvalidSettings(f"--json: {path}: {error.strerror or error}") from error
