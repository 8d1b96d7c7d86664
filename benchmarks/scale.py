"""What the queue itself costs, and how far it reaches: `python -m benchmarks.scale`.

1. Stages that do nothing, through this queue and through Celery alone: a canvas of nine tasks (with a group
   that a chord joins) on one server with the same settings of delivery, in turn. Here every stage is found in the
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
import os
import platform
import time
from collections.abc import Callable

from benchmarks.empty_stages import nothing, raw_app
from benchmarks.many_pipelines import lists, waiting
from benchmarks.queue_server import worker_arguments
from benchmarks.workers import idle, start, sweep
from distill_queue.shared.settings import Settings


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
        raw_app(Settings.load()).worker_main(worker_arguments("cpu"))
        return
    machine = f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}")
    for name in options.parts or parts:
        parts[name](options)


if __name__ == "__main__":
    main()
