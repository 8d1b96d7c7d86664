"""Health: whether this machine's worker is on the roster, as a container's health check asks.

A worker's main process enters itself eight times in a visibility timeout, so that an entry says both that it is alive
and that it reaches the broker. `python -m distill_queue.worker.health` takes a third of a second, `celery inspect
ping` a whole one.
"""

from __future__ import annotations

import socket
import sys

from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import DistillError
from distill_queue.shared.ledger.workers import WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.shared.text import plain_line


def workers_here(settings: Settings) -> list[str]:
    """The names of this machine's workers that are on the roster.

    Raises:
        BrokerUnavailable: the broker does not answer.

    """
    here = plain_line(socket.gethostname())
    return [entry.name for entry in WorkerRegistry(connect(settings, retries=0)).workers() if entry.host == here]


def main() -> None:
    """Exit with 0 where there is one, with 1 where there is none."""
    try:
        names = workers_here(Settings.load())
    except DistillError as error:
        sys.exit(f"error: {error}")
    if not names:
        here = plain_line(socket.gethostname())
        sys.exit(f"error: no worker of {here} is on the roster: it starts, or it does not reach the broker")


if __name__ == "__main__":
    main()
