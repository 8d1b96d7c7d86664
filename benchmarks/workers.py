"""Workers: their start, a sweep by one and by two, and what idle ones ask. A part of `python -m benchmarks.scale`."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from collections import Counter
from statistics import median

import redis

from benchmarks.queue_server import LIMIT_SECONDS, SELDOM_SECONDS, print_table, processor_seconds
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

#: Of a training in the sweep: long enough that the queue does not matter.
SWEEP_STUDENTS, SWEEP_EPOCHS = 8, 60
#: Seconds for which workers without work are listened to; two renewals of the usual settings and more.
IDLE_SECONDS = 30.0


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
    print_table("From the start to the first worker", ("", "seconds", "processor"), rows)


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
    print_table(f"A sweep of {SWEEP_STUDENTS} students", ("workers of one core", "seconds", "speed-up"), rows)


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
        busy = processor_seconds(server)
        time.sleep(IDLE_SECONDS)
        share = (processor_seconds(server) - busy) / IDLE_SECONDS  # Before it has to tell of each command.
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
    print_table(f"{present} idle workers", ("command", "whose", "a second", "a worker"), rows)


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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
