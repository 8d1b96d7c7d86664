"""Stages that do nothing, through this queue and through Celery alone. A part of `python -m benchmarks.scale`."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from celery import Celery, chain, group
from celery.canvas import Signature

from benchmarks.queue_server import (
    LOOK_SECONDS,
    SELDOM_SECONDS,
    SPEC,
    finish,
    print_table,
    processor_seconds,
    queue_server,
    worker_arguments,
)
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

#: Rounds, the sides in turn; chains one after the other, whose time is the latency, and as many at once, whose number a
#: second is throughput.
ROUNDS, CHAINS, AT_ONCE = 10, 10, 40


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
            finish([self.send()], LOOK_SECONDS)
            self.latencies.append(time.monotonic() - started)
        server.config_resetstat()
        busy, started = processor_seconds(server), time.monotonic()
        finish([self.send() for _ in range(AT_ONCE)], SELDOM_SECONDS)
        self.throughputs.append(AT_ONCE / (time.monotonic() - started))
        self.processor_seconds += processor_seconds(server) - busy
        self.commands.update(_calls(server))

    def a_chain(self, total: float) -> float:
        """What comes to one of the chains that were sent at once."""
        return total / (ROUNDS * AT_ONCE)


def nothing(_: argparse.Namespace) -> None:
    """Latency and throughput of stages that do nothing, against Celery alone, and what both ask of the server."""
    with queue_server() as (settings, server, folder):
        spec = PipelineSpec.load(SPEC)
        plan = Plan.of(spec)
        client, app = PipelineClient(settings), raw_app(settings)
        command = [sys.executable, "-m", "celery", "-A", "distill_queue.worker.app", *worker_arguments("any")]
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
            finish([side.send()], SELDOM_SECONDS)
            finish([side.send()], SELDOM_SECONDS)
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
    print_table("Nine tasks that do nothing", ("", "Celery", "distill", "ratio"), rows)


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


def _calls(server: Any) -> dict[str, int]:
    """How often each command was called since the statistics were reset."""
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in server.info("commandstats").items()}


def _compared(name: str, celery: float, distill: float) -> tuple[str, ...]:
    return name, f"{celery:.1f}", f"{distill:.1f}", f"{distill / celery:.2f}x" if celery else ""
