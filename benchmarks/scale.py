"""What the queue itself costs, and how far it reaches: `python -m benchmarks.scale`.

1. Stages that do nothing, through this queue and through Celery alone: the quickstart's canvas (nine tasks, with a
   group that a chord joins) on one server with the same settings of delivery, in turn. Here every stage is found in the
   store; there every task returns its title.
2. The commands while many pipelines wait, and what a waiting one takes of the server's memory.
3. A sweep of single trainings by one worker of one core, and by two.
4. What workers that have nothing to do ask of the server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import redis
from celery import Celery, chain, group
from celery.canvas import Signature
from rich.console import Console
from rich.table import Table

from scheduler.child import Child
from scheduler.client import PipelineClient
from scheduler.local import LocalStack
from shared.broker import create_app
from shared.plan import Plan
from shared.settings import Settings
from shared.spec import PipelineSpec

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "examples" / "quickstart.yaml"
#: Chains one after the other, whose time is the latency, and as many at once, whose number a second is throughput.
CHAINS, AT_ONCE, ROUNDS = 20, 100, 5
#: Of a training in the sweep: long enough that the queue does not matter.
SWEEP_STUDENTS, SWEEP_EPOCHS = 8, 60
#: Seconds for which workers without work are listened to; two renewals of the usual settings and more.
IDLE_SECONDS = 30.0
LIMIT_SECONDS = 600.0

console = Console(highlight=False)


def main() -> None:
    """Measure all parts, or those that are named."""
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "nothing": nothing,
        "waiting": waiting,
        "sweep": sweep,
        "idle": idle,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="which to measure; all by default")
    parser.add_argument("--pipelines", type=int, default=10_000, help="how many wait")
    parser.add_argument("--workers", type=int, default=64, help="how many are idle")
    parser.add_argument("--raw-worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw_worker:
        raw_app(Settings.load()).worker_main(["worker", "-Q", "any", "-l", "WARNING", "--without-gossip"])
    for name in options.parts or parts:
        parts[name](options)


def nothing(_: argparse.Namespace) -> None:
    """Latency and throughput of stages that do nothing, against Celery alone."""
    with _server() as (settings, server, folder):
        plan = Plan.of(PipelineSpec.load(SPEC))
        client, app = PipelineClient(settings), raw_app(settings)
        celery = [sys.executable, "-m", "celery", "-A", "worker.app", *_worker()]
        raw = [sys.executable, "-m", "benchmarks.scale", "--raw-worker"]
        ours = Child("worker", celery, settings.environment, folder / "ours.log")
        theirs = Child("raw", raw, settings.environment, folder / "raw.log")

        def through_us() -> Callable[[], bool]:
            pipeline = client.submit(PipelineSpec.load(SPEC)).id
            return lambda: bool(server.hexists(f"distill:pipeline:{pipeline}", f"record:{plan.report.key}"))

        def through_celery() -> Callable[[], bool]:
            result = raw_canvas(app, plan).apply_async()
            return lambda: bool(server.exists(f"celery-task-meta-{result.id}"))

        figures: dict[str, list[tuple[float, float]]] = {"distill": [], "Celery": []}
        sides = {"distill": (ours, through_us), "Celery": (theirs, through_celery)}
        for _round in range(ROUNDS):
            for name, (worker, send) in sides.items():
                worker.start()
                _finish([send()])  # It loads its libraries, and computes what is found from then on.
                figures[name].append((_latency(send), _throughput(send)))
                worker.ask_to_end()
                worker.end(time.monotonic() + 30)
    latency, throughput = ({name: median(pair[i] for pair in pairs) for name, pairs in figures.items()} for i in (0, 1))
    table = _table(f"Nine tasks that do nothing: medians of {ROUNDS} rounds", "", "Celery", "distill", "ratio")
    table.add_row("latency of a chain, ms", *_row(latency, 1e3))
    table.add_row("chains a second", *_row(throughput, 1.0))
    console.print(table)


def waiting(options: argparse.Namespace) -> None:
    """The commands while many pipelines wait."""
    with _server() as (settings, server, _):
        client, spec = PipelineClient(settings), PipelineSpec.load(SPEC)
        before = server.info("memory")["used_memory"]
        started = time.monotonic()
        for _number in range(options.pipelines):
            client.submit(spec)
        each = (time.monotonic() - started) / options.pipelines
        memory = (server.info("memory")["used_memory"] - before) / options.pipelines
        table = _table(f"{options.pipelines:,} pipelines wait", "command", "seconds")
        newest = client.ids()[0]
        for command in (["submit", str(SPEC)], ["plan", str(SPEC)], ["status"], ["status", newest], ["workers"]):
            table.add_row(
                " ".join(["distill", command[0], *(["ID"] if newest in command else [])]),
                f"{_command(settings, command):.2f}",
            )
    table.caption = f"submitted in {each * 1e3:.1f} ms each · {memory / 1e3:.1f} kB of the server's memory each"
    console.print(table)


def sweep(_: argparse.Namespace) -> None:
    """Single trainings by one worker of one core, and by two."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for number in range(3):
        for workers, seconds in times.items():
            with tempfile.TemporaryDirectory() as name:
                settings = Settings(store=name, threads=1)
                with LocalStack(settings, workers=workers) as stack:
                    client = PipelineClient(stack.settings)
                    _ended(client, client.submit(_sweep_spec(number, epochs=1)).id)  # All load their libraries.
                    started = time.monotonic()
                    _ended(client, client.submit(_sweep_spec(number, epochs=SWEEP_EPOCHS)).id)
                    seconds.append(time.monotonic() - started)
    table = _table(
        f"A sweep of {SWEEP_STUDENTS} students: medians of 3 rounds", "workers of one core", "seconds", "speed-up"
    )
    for workers, seconds in times.items():
        table.add_row(f"{workers}", f"{median(seconds):.1f}", f"{median(times[1]) / median(seconds):.2f}x")
    console.print(table)


def idle(options: argparse.Namespace) -> None:
    """What idle workers ask of the server, by command."""
    with (
        tempfile.TemporaryDirectory() as name,
        LocalStack(Settings(store=name), workers=options.workers) as stack,
    ):
        client = PipelineClient(stack.settings)
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(client.workers()) < options.workers and time.monotonic() < deadline:
            time.sleep(1.0)
        server = redis.Redis.from_url(stack.settings.redis_url)
        server.config_resetstat()
        time.sleep(IDLE_SECONDS)
        calls = {name: facts["calls"] for name, facts in server.info("commandstats").items()}
    table = _table(
        f"{options.workers} idle workers, {IDLE_SECONDS:.0f} s", "command", "a second", "a worker and second"
    )
    for name, count in sorted(calls.items(), key=lambda item: -item[1]):
        if count / IDLE_SECONDS >= 0.1:
            a_second = count / IDLE_SECONDS
            table.add_row(name.removeprefix("cmdstat_"), f"{a_second:,.1f}", f"{a_second / options.workers:.2f}")
    console.print(table)


def raw_app(settings: Settings) -> Celery:
    """Celery alone: the same settings of delivery, and a task that does nothing."""
    app = create_app(settings)

    def do_nothing(text: str) -> str:
        return text

    app.task(do_nothing, name="raw.nothing", shared=False)
    return app


def raw_canvas(app: Celery, plan: Plan) -> Signature:
    """The plan's canvas, of tasks that do nothing."""

    def task(title: str) -> Signature:
        return app.signature("raw.nothing", kwargs={"text": title}, immutable=True, options={"queue": "any"})

    branches = [
        chain(*(task(bundle[0].title) for bundle in branch), app=app) if len(branch) > 1 else task(branch[0][0].title)
        for branch in plan.branches
    ]
    return chain(*(task(stage.title) for stage in plan.trunk), group(branches, app=app), task("report"), app=app)


@contextmanager
def _server() -> Iterator[tuple[Settings, Any, Path]]:
    """A server and an empty store, without workers."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Settings(store=name), workers=0) as stack:
        yield stack.settings, redis.Redis.from_url(stack.settings.redis_url), Path(name)


def _worker() -> list[str]:
    return ["worker", "-Q", "any", "-l", "WARNING", "--without-gossip"]


def _latency(send: Callable[[], Callable[[], bool]]) -> float:
    """Median seconds from sending a chain to its end, one at a time."""
    times = []
    for _ in range(CHAINS):
        started = time.monotonic()
        _finish([send()])
        times.append(time.monotonic() - started)
    return median(times)


def _throughput(send: Callable[[], Callable[[], bool]]) -> float:
    """Chains a second, of many that are sent at once."""
    started = time.monotonic()
    _finish([send() for _ in range(AT_ONCE)])
    return AT_ONCE / (time.monotonic() - started)


def _finish(done: list[Callable[[], bool]]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    for each in reversed(done):
        while not each():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not done within {LIMIT_SECONDS:.0f} s")
            time.sleep(0.0005)


def _ended(client: PipelineClient, pipeline: str) -> None:
    for _ in client.watch(pipeline):
        pass
    client.results(pipeline)


def _sweep_spec(seed: int, epochs: int) -> PipelineSpec:
    """Students that are trained one by one, each long enough to keep a core busy."""
    students = [
        {
            "name": f"s{number}",
            "model": {"name": "mlp", "hidden": [128]},
            "training": {"epochs": epochs, "seed": seed},
            "distillation": {"temperature": 1 + number},
        }
        for number in range(SWEEP_STUDENTS)
    ]
    teacher = {"model": {"name": "mlp", "hidden": [256]}, "training": {"epochs": 1, "seed": seed}}
    return PipelineSpec.model_validate(
        {"name": "sweep", "teacher": teacher, "students": students, "evaluation": {"control": False}, "fuse": "off"}
    )


def _command(settings: Settings, command: list[str]) -> float:
    """Seconds of a command, the fastest of three."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(
            [Path(sys.executable).with_name("distill"), *command],
            env=os.environ | settings.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.monotonic() - started)
    return min(times)


def _row(values: dict[str, float], factor: float) -> tuple[str, str, str]:
    celery, distill = values["Celery"] * factor, values["distill"] * factor
    return f"{celery:.1f}", f"{distill:.1f}", f"{distill / celery:.2f}x"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    main()
