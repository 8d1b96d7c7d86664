"""The `distill` commands about pipelines: submitted, followed, compared. Imports late: `--help` answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from distill_queue.scheduler.cli import exports, report
from distill_queue.scheduler.cli.options import (
    AsCsv,
    AsJson,
    BestWorkers,
    Changes,
    PipelineId,
    PipelineIds,
    Priority,
    SpecPath,
    SpecPaths,
    console,
    known_ids,
    not_both,
)
from distill_queue.scheduler.terminal.output import print_csv, print_json, print_json_list, say
from distill_queue.shared.errors import PipelineFailed, UnreadableRecord

if TYPE_CHECKING:
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.shared.ledger.results import PipelineResults
    from distill_queue.shared.ledger.status import PipelineStatus

app = typer.Typer()


@app.command()
def run(spec: SpecPath, workers: BestWorkers = None, changes: Changes = None) -> None:
    """Run a pipeline here and now: starts a server and workers, and stops them at the end."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.client.data_on_disk import load_spec, with_folders
    from distill_queue.scheduler.client.exported import require_exporters
    from distill_queue.scheduler.client.outcome import keep_results, results_of
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.scheduler.stack.side_by_side import workers_for
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.report.sentences import headlines
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of
    from distill_queue.shared.store.submissions import Submissions

    settings = Settings.load()
    store = store_of(settings)
    pipeline_spec = load_spec(spec, settings, changes or ())
    settings = with_folders(settings, pipeline_spec, spec)
    plan = Plan.of(pipeline_spec)
    require_exporters(plan, store)
    store.check_writable()
    computes = not all(stage.ref in store for stage in plan.stages)
    with LocalStack(settings, workers=workers or workers_for(plan, settings), loads_ahead=computes) as stack:
        client = PipelineClient(stack.settings)
        pipeline = client.submit_loaded(pipeline_spec)
        try:
            _follow(client, pipeline.id, stack)
            status = pipeline.status
            results = results_of(status, f"see the logs in {settings.folder / 'logs'}")
        finally:
            Submissions(store).remove(pipeline.id)  # Its broker ends here: no other one is to recover it.
        stack.idle = True
    _show(results)
    path = keep_results(settings, results)
    console.print(f"Results: {path}\nReport: {report.page_of(status, store)}", soft_wrap=True)
    for line in headlines(results.scores):
        console.print(line, soft_wrap=True)
    for line in exports.lines_of(pipeline.id, {each.name: each.exports for each in results.scores.students}):
        console.print(line, soft_wrap=True)
    console.print(f"Next: open the report in a browser; 'distill results {pipeline}' prints the tables again")


@app.command()
def submit(
    specs: SpecPaths,
    changes: Changes = None,
    priority: Priority = None,
    follow: Annotated[bool, typer.Option("--watch", help="Follow them to their ends, and show the results.")] = False,
) -> None:
    """Enqueue pipelines and print their ids; all specs are read before the first one is sent."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.client.data_on_disk import load_spec
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    changes = [*(changes or ()), *([f"priority={priority}"] if priority else ())]
    read = [load_spec(path, settings, changes) for path in specs]
    client = PipelineClient(settings)
    pipelines = [client.submit_loaded(spec).id for spec in read]
    for pipeline in pipelines:
        say(pipeline)
    if follow:
        _watch_all(client, pipelines)


@app.command()
def status(
    pipeline: Annotated[str | None, typer.Argument(metavar="[ID]", autocompletion=known_ids)] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=1_000_000, help="Most pipelines to list, the newest first.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List the pipelines, or show the stages of one: how far they are, and why they wait."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.tables.tables import print_pipelines
    from distill_queue.scheduler.watch import tree as live
    from distill_queue.scheduler.watch.waiting import facts_of

    client = PipelineClient()
    served = client.served_queues()
    if pipeline is None:
        found = client.standings(limit)
        if as_json:
            print_json_list(facts_of(status, served) for status in found)
        elif (newest := next(found, None)) is None:
            console.print("no pipelines yet: distill submit SPEC")
        else:
            print_pipelines(console, chain((newest,), found))
    elif as_json:
        print_json(facts_of(client.status(pipeline), served))
    else:
        console.print(live.Stages(client.status(pipeline), served))


@app.command()
def watch(pipelines: PipelineIds) -> None:
    """Follow pipelines until they end, and show their results."""
    from distill_queue.scheduler.client.client import PipelineClient

    client = PipelineClient()
    _watch_all(client, _known(client, pipelines))


@app.command()
def cancel(pipelines: PipelineIds) -> None:
    """Stop pipelines; finished results stay, and stages that other pipelines need go on."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.shared.ledger.status import State

    client = PipelineClient()
    found = {pipeline: _found(client, pipeline) for pipeline in pipelines}
    for pipeline, status in found.items():
        client.cancel(pipeline)
        if status and status.finished:
            ended = "cancelled" if status.state == State.CANCELLED else "finished"
            console.print(f"{pipeline} is {ended} already", soft_wrap=True)
        else:
            console.print(f"Cancelled {pipeline}", soft_wrap=True)


@app.command()
def retry(pipelines: PipelineIds) -> None:
    """Submit pipelines again under new ids: finished results are found, failed stages are tried again."""
    from distill_queue.scheduler.client.client import PipelineClient

    client = PipelineClient()
    for pipeline in _known(client, pipelines):
        say(client.retry(pipeline))


@app.command()
def recover() -> None:
    """Send again every unfinished pipeline that the store knows and the broker has forgotten."""
    from distill_queue.scheduler.client.client import PipelineClient

    recovered = PipelineClient().recover()
    for pipeline in recovered:
        say(pipeline)
    console.print(f"{len(recovered)} pipelines recovered")


@app.command()
def results(pipeline: PipelineId, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Show the results of a finished pipeline, also of `run`'s; as CSV, a line for each model and seed."""
    not_both(as_json, as_csv)
    found = _results(pipeline)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif as_csv:
        print_csv(found.rows())
    else:
        _show(found)
        _tell_budget(found)


@app.command()
def compare(
    pipelines: PipelineIds,
    order: Annotated[
        Literal["given", "accuracy", "gain", "parameters", "latency"],
        typer.Option("--sort", help="What to sort the students by, the best first."),
    ] = "given",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show the students of several finished pipelines side by side."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.tables.score_tables import comparison_table

    not_both(as_json, as_csv)
    students = PipelineClient().compare(pipelines, order)
    rows = [student.model_dump(mode="json") for student in students]
    if as_json:
        print_json(rows)
    elif as_csv:
        print_csv(rows)
    else:
        console.print(comparison_table(students))


def _found(client: PipelineClient, pipeline: str) -> PipelineStatus | None:
    """The status of a known pipeline, if this version can read it."""
    try:
        return client.find(pipeline)
    except UnreadableRecord:
        return None


def _known(client: PipelineClient, pipelines: list[str]) -> list[str]:
    """The ids without repeats; raises if one is unknown, before a command does anything for another."""
    return [client.pipeline(pipeline).id for pipeline in dict.fromkeys(pipelines)]


def _results(pipeline: str) -> PipelineResults:
    """The results of a finished pipeline: the broker's, or those that `run` has written, whose broker is gone."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.client.outcome import kept_results
    from distill_queue.shared.errors import BrokerUnavailable, UnknownPipeline
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    try:
        return PipelineClient(settings).results(pipeline)
    except (BrokerUnavailable, UnknownPipeline):
        if (kept := kept_results(settings, pipeline)) is None:
            raise
        return kept


def _watch_all(client: PipelineClient, pipelines: list[str]) -> None:
    """Follow pipelines in turn and show the results of each; fail at the end if one of them did."""
    errors = []
    for pipeline in pipelines:
        if len(pipelines) > 1 and not console.is_terminal:  # In a terminal, the tree shows the id.
            console.print(pipeline, soft_wrap=True)
        _follow(client, pipeline)
        try:
            found = client.results(pipeline)
            _show(found)
            _tell_budget(found)
        except (PipelineFailed, UnreadableRecord) as error:
            errors.append(str(error))
    if errors:
        raise PipelineFailed("\n".join(errors))


def _follow(client: PipelineClient, pipeline: str, stack: LocalStack | None = None) -> None:
    from distill_queue.scheduler.watch import tree as live

    def tended() -> Iterator[PipelineStatus]:
        loading = Thread(target=_load_for_results, name="load-for-results", daemon=True)
        for status in client.watch(pipeline):
            yield status
            if stack:
                stack.tend()
                if loading.ident is None and any(state.record for state in status.states.values()):
                    loading.start()  # By now the workers have started, and this process only waits.

    live.follow(tended(), console, (lambda: None) if stack else client.served_queues)


def _load_for_results() -> None:
    """Import what shows results and draws their page, so that they are there sooner."""
    with suppress(ImportError):  # Said where they are used.
        import_module("distill_queue.scheduler.tables.score_tables")
        report.load()


def _show(results: PipelineResults) -> None:
    from distill_queue.scheduler.tables.score_tables import costs_table, exports_table, scores_table
    from distill_queue.scheduler.tables.tables import stages_table
    from distill_queue.scheduler.watch import tree as live

    console.print(stages_table(results))
    console.print(scores_table(results))
    console.print(costs_table(results))
    if exported := exports_table(results):
        console.print(exported)
    for warning in results.warnings:
        if not warning.accepted:
            console.print(live.warned(warning), soft_wrap=True)


def _tell_budget(results: PipelineResults) -> None:
    """Say what came of a budget, which `run` says among its last lines."""
    if results.scores.budget:
        console.print(results.scores.budget.summary, soft_wrap=True)
