"""A server to measure, what was asked of it, and tables of Markdown: what all parts of `benchmarks.scale` share."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.settings import Settings

ROOT = Path(__file__).parent.parent
SPEC = Path(__file__).with_name("nine_stages.yaml")
LIMIT_SECONDS = 600.0
#: Seconds between two looks at whether a single chain has ended, and at whether many have.
LOOK_SECONDS, SELDOM_SECONDS = 0.0005, 0.02


@contextmanager
def queue_server() -> Iterator[tuple[Settings, Any, Path]]:
    """A server and an empty store, without workers."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Settings(store=name, threads=1), workers=0) as stack:
        yield stack.settings, redis.Redis(**stack.settings.broker.redis_options), Path(name)


def worker_arguments(queue: str) -> list[str]:
    """Arguments of Celery for a worker of one queue, which asks other workers nothing."""
    return ["worker", "-Q", queue, "-n", f"{queue}@%h", "-l", "WARNING", "--without-gossip", "--without-mingle"]


def finish(done: list[Callable[[], bool]], look_seconds: float) -> None:
    """Wait until all of what was sent has ended, with so many seconds between two looks."""
    deadline = time.monotonic() + LIMIT_SECONDS
    for each in reversed(done):
        while not each():
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not done within {LIMIT_SECONDS:.0f} s")
            time.sleep(look_seconds)


def processor_seconds(server: Any) -> float:
    """Seconds of the processor that a server has taken."""
    facts = server.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of Markdown, and below it how busy the machine was."""
    print(f"\n{title}:\n")
    for row in (columns, ["---", *["---:"] * (len(columns) - 1)], *rows):
        print(f"| {' | '.join(row)} |")
    print(f"\n(load of the last minute: {os.getloadavg()[0]:.1f})", flush=True)
