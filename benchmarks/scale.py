"""What the queue itself costs, and how far it reaches: `python -m benchmarks.scale`.

1. Stages that do nothing, through this queue and through Celery alone: the quickstart's canvas (nine tasks, with a
   group that a chord joins) on one server with the same settings of delivery, in turn. Here every stage is found in the
   store; there every task returns its title.
2. The commands while many pipelines wait, and what a waiting one takes of the server's memory.
3. The commands that list or look through many pipelines and artifacts: seconds, processor time and memory; with
   `--profile`, the functions in which the time goes.
4. From the start of a stack, with Flower, to its first worker.
5. A sweep of single trainings by one worker of one core, and by two.
6. What workers that have nothing to do ask of the server.

Each part prints a table of Markdown, as they stand in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import redis
from celery import Celery, chain, group
from celery.canvas import Signature

from benchmarks.lists import COLUMNS, cost_of, fill, profile_of
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "examples" / "quickstart.yaml"
#: Rounds, the sides in turn; chains one after the other, whose time is the latency, and as many at once, whose number a
#: second is throughput.
ROUNDS, CHAINS, AT_ONCE = 10, 10, 40
#: Of a training in the sweep: long enough that the queue does not matter.
SWEEP_STUDENTS, SWEEP_EPOCHS = 8, 60
#: Seconds for which workers without work are listened to; two renewals of the usual settings and more.
IDLE_SECONDS = 30.0
LIMIT_SECONDS = 600.0
#: Rounds of a command that lists; the best one counts.
ROUNDS_OF_LISTS = 3
#: Seconds between two looks at whether a single chain has ended, and at whether many have.
LOOK_SECONDS, SELDOM_SECONDS = 0.0005, 0.02


def main() -> None:
    """Measure all parts, or those that are named."""
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "nothing": nothing,
        "waiting": waiting,
        "lists": lists,
        "start": start,
        "sweep": sweep,
        "idle": idle,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="which to measure; all by default")
    parser.add_argument("--pipelines", type=int, default=10_000, help="how many wait")
    parser.add_argument("--listed", type=int, default=2_000, help="how many wait while all of them are listed")
    parser.add_argument(
        "--artifacts", type=int, nargs="*", default=[5_000, 100_000], help="how many the store holds, ascending"
    )
    parser.add_argument("--profile", action="store_true", help="say where the time of the lists goes")
    parser.add_argument("--workers", type=int, default=64, help="how many are idle")
    parser.add_argument("--raw-worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw_worker:
        raw_app(Settings.load()).worker_main(_worker("cpu"))
        return
    machine = f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}")
    for name in options.parts or parts:
        parts[name](options)


@dataclass(slots=True)
class Side:
    """One way to have nine tasks done that do nothing, and what was measured of it."""

    #: Sends a chain, and returns what asks whether it has ended.
    send: Callable[[], Callable[[], bool]]
    latencies: list[float] = field(default_factory=list)
    throughputs: list[float] = field(default_factory=list)
    #: Of all chains that were sent at once: commands at the server, and seconds of its processor.
    commands: Counter[str] = field(default_factory=Counter)
    processor_seconds: float = 0.0

    def measure(self, server: Any) -> None:
        """One round."""
        for _ in range(CHAINS):
            started = time.monotonic()
            _finish([self.send()], LOOK_SECONDS)
            self.latencies.append(time.monotonic() - started)
        server.config_resetstat()
        busy, started = _processor_seconds(server), time.monotonic()
        _finish([self.send() for _ in range(AT_ONCE)], SELDOM_SECONDS)
        self.throughputs.append(AT_ONCE / (time.monotonic() - started))
        self.processor_seconds += _processor_seconds(server) - busy
        self.commands.update(_calls(server))

    def a_chain(self, total: float) -> float:
        """What comes to one of the chains that were sent at once."""
        return total / (ROUNDS * AT_ONCE)


def nothing(_: argparse.Namespace) -> None:
    """Latency and throughput of stages that do nothing, against Celery alone, and what both ask of the server."""
    with _server() as (settings, server, folder):
        spec = PipelineSpec.load(SPEC)
        plan = Plan.of(spec)
        client, app = PipelineClient(settings), raw_app(settings)
        command = [sys.executable, "-m", "celery", "-A", "distill_queue.worker.app", *_worker("any")]
        workers = [
            Child("worker", command, settings.environment, folder / "ours.log"),
            Child(
                "raw", [sys.executable, "-m", "benchmarks.scale", "--raw-worker"], settings.environment, folder / "raw"
            ),
        ]

        def through_us() -> Callable[[], bool]:
            pipeline = client.submit(spec).id
            return lambda: bool(server.hexists(f"distill:pipeline:{pipeline}", f"record:{plan.report.key}"))

        def through_celery() -> Callable[[], bool]:
            result = raw_canvas(app, plan).apply_async()
            return lambda: bool(server.exists(f"celery-task-meta-{result.id}"))

        celery, distill = Side(through_celery), Side(through_us)
        for worker in workers:
            worker.start()
        for side in (celery, distill):  # They load their libraries, and compute what is found from then on.
            _finish([side.send()], SELDOM_SECONDS)
            _finish([side.send()], SELDOM_SECONDS)
        for _round in range(ROUNDS):
            for side in (celery, distill):
                side.measure(server)
        for worker in workers:
            worker.ask_to_end()
            worker.end(time.monotonic() + 30)
        gc.collect()  # Celery's results speak to the server when they are collected: not after it is gone.
    rows = [
        _compared("latency of a chain, ms", *(1e3 * median(side.latencies) for side in (celery, distill))),
        _compared("chains a second", *(median(side.throughputs) for side in (celery, distill))),
        _compared("commands a chain", *(side.a_chain(side.commands.total()) for side in (celery, distill))),
        _compared(
            "server's processor a chain, ms",
            *(1e3 * side.a_chain(side.processor_seconds) for side in (celery, distill)),
        ),
    ]
    for name, _number in (celery.commands | distill.commands).most_common():
        counts = [side.a_chain(side.commands[name]) for side in (celery, distill)]
        if max(counts) >= 1.0:
            rows.append(_compared(f"`{name}`", *counts))
    _print_table("Nine tasks that do nothing", ("", "Celery", "distill", "ratio"), rows)


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
        newest = client.ids()[0]
        commands = (["submit", str(SPEC)], ["plan", str(SPEC)], ["status"], ["status", newest], ["workers"])
        rows = [
            (f"`distill {command[0]}{' ID' if newest in command else ''}`", f"{_command(settings, command):.2f} s")
            for command in commands
        ]
    rows.append(("submitting one from Python", f"{each * 1e3:.1f} ms"))
    rows.append(("server's memory for one", f"{memory / 1e3:.1f} kB"))
    _print_table(f"{options.pipelines:,} pipelines wait", ("", ""), rows)


def lists(options: argparse.Namespace) -> None:
    """The commands that list or look through many pipelines, and those that list many artifacts."""
    with _server() as (settings, _, _):
        client, spec = PipelineClient(settings), PipelineSpec.load(SPEC)
        pipelines = [client.submit(spec).id for _number in range(options.listed)]
        every = ["-n", str(options.listed)]
        _print_costs(
            f"{options.listed:,} pipelines wait",
            settings,
            (
                ["status"],
                ["status", *every],
                ["status", *every, "--json"],
                ["status", pipelines[0]],
                ["workers"],
                ["queues"],
                ["logs", pipelines[0]],
                ["cancel", pipelines[0]],
                ["doctor"],
                ["recover"],
                ["store", "ls"],
                ["store", "gc", "--dry-run"],
            ),
            profiled=options.profile,
        )
    with _server() as (settings, _, _):
        store, there = FolderStore(settings.folder), 0
        for artifacts in options.artifacts:
            fill(store, there, artifacts)
            there = artifacts
            commands = (["store", "ls"], ["store", "ls", "--json"], ["store", "gc", "--dry-run", "--keep-days", "0"])
            _print_costs(f"{artifacts:,} artifacts", settings, commands, profiled=options.profile)


def start(_: argparse.Namespace) -> None:
    """From the start of `distill up` to its first worker, and what the processes take of the processor until then."""
    rows = []
    for flower_port in (None, _free_port()):
        seconds, processor = [], []
        for _round in range(3):
            with tempfile.TemporaryDirectory() as name:
                before, started = os.times(), time.monotonic()
                with LocalStack(Settings(store=name, threads=1), workers=1, flower_port=flower_port) as stack:
                    client = PipelineClient(stack.settings)
                    while not client.workers():
                        time.sleep(SELDOM_SECONDS)
                    seconds.append(time.monotonic() - started)
                    stack.idle = True
                after = os.times()
                processor.append(sum(after[:4]) - sum(before[:4]))
        what = "with Flower" if flower_port else "without Flower"
        rows.append((what, f"{min(seconds):.1f} s", f"{min(processor):.1f} s"))
    _print_table("From the start to the first worker", ("", "seconds", "processor"), rows)


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
    rows = [
        (f"{workers}", f"{median(seconds):.1f}", f"{median(times[1]) / median(seconds):.2f}x")
        for workers, seconds in times.items()
    ]
    _print_table(f"A sweep of {SWEEP_STUDENTS} students", ("workers of one core", "seconds", "speed-up"), rows)


def idle(options: argparse.Namespace) -> None:
    """What idle workers ask of the server, by command, and whether Celery asks it or this project."""
    with (
        tempfile.TemporaryDirectory() as name,
        LocalStack(Settings(store=name), workers=options.workers) as stack,
    ):
        client = PipelineClient(stack.settings)
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(client.workers()) < options.workers and time.monotonic() < deadline:
            time.sleep(1.0)
        present = len(client.workers())
        server = redis.Redis(**stack.settings.broker.redis_options)
        time.sleep(IDLE_SECONDS)  # Until they have said what they say at their start only.
        busy = _processor_seconds(server)
        time.sleep(IDLE_SECONDS)
        share = (_processor_seconds(server) - busy) / IDLE_SECONDS  # Before it has to tell of each command.
        calls, started = Counter[tuple[str, bool]](), time.monotonic()
        with server.monitor() as monitor:  # type: ignore[no-untyped-call]
            while (seconds := time.monotonic() - started) < IDLE_SECONDS:
                verb, *arguments = str(monitor.next_command()["command"]).split(" ", 2)
                calls[verb.lower(), any(text.startswith("distill:") for text in arguments)] += 1
        connections = server.info("clients")["connected_clients"] / present
    rows = [
        (f"`{verb}`", "renewal" if ours else "Celery", f"{count / seconds:,.1f}", f"{count / seconds / present:.2f}")
        for (verb, ours), count in calls.most_common()
        if count / seconds / present >= 0.01
    ]
    renewals = sum(count for (_, ours), count in calls.items() if ours)
    rows.append(("all", "", f"{calls.total() / seconds:,.1f}", f"{calls.total() / seconds / present:.2f}"))
    rows.append(("of them the renewal", "", f"{renewals / seconds:,.1f}", f"{renewals / calls.total():.0%} of all"))
    rows.append(("server's processor", "", f"{share:.2%} of a core", f"{share / present:.3%}"))
    rows.append(("connections", "", f"{connections * present:,.0f}", f"{connections:.1f}"))
    _print_table(f"{present} idle workers", ("command", "whose", "a second", "a worker"), rows)


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
        return app.signature("raw.nothing", kwargs={"text": title}, immutable=True, options={"queue": "cpu"})

    branches = [
        chain(*(task(bundle[0].title) for bundle in branch), app=app) if len(branch) > 1 else task(branch[0][0].title)
        for branch in plan.branches
    ]
    return chain(*(task(stage.title) for stage in plan.trunk), group(branches, app=app), task("report"), app=app)


@contextmanager
def _server() -> Iterator[tuple[Settings, Any, Path]]:
    """A server and an empty store, without workers."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Settings(store=name, threads=1), workers=0) as stack:
        yield stack.settings, redis.Redis(**stack.settings.broker.redis_options), Path(name)


def _worker(queue: str) -> list[str]:
    return ["worker", "-Q", queue, "-n", f"{queue}@%h", "-l", "WARNING", "--without-gossip", "--without-mingle"]


def _finish(done: list[Callable[[], bool]], look_seconds: float) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    for each in reversed(done):
        while not each():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not done within {LIMIT_SECONDS:.0f} s")
            time.sleep(look_seconds)


def _calls(server: Any) -> dict[str, int]:
    """How often each command was called since the statistics were reset."""
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in server.info("commandstats").items()}


def _processor_seconds(server: Any) -> float:
    facts = server.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


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


def _print_costs(title: str, settings: Settings, commands: Sequence[list[str]], *, profiled: bool) -> None:
    _print_table(title, COLUMNS, [cost_of(settings, command, ROUNDS_OF_LISTS).row for command in commands])
    for command in commands if profiled else ():
        print(f"\n`distill {' '.join(command)}`\n\n```\n{profile_of(settings, command)}\n```", flush=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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


def _compared(name: str, celery: float, distill: float) -> tuple[str, ...]:
    return name, f"{celery:.1f}", f"{distill:.1f}", f"{distill / celery:.2f}x" if celery else ""


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of Markdown, and below it how busy the machine was."""
    print(f"\n{title}:\n")
    for row in (columns, ["---", *["---:"] * (len(columns) - 1)], *rows):
        print(f"| {' | '.join(row)} |")
    print(f"\n(load of the last minute: {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    main()
