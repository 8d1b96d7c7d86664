"""Queues: what waits in the broker's lists, and what workers have taken from them and not yet acknowledged."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from distill_queue.shared.broker.celery_app import lists_of, seconds_due
from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.fields import DUE
from distill_queue.shared.catalog import PRIORITIES, QUEUES
from distill_queue.shared.frozen import UNREADABLE, Frozen
from distill_queue.shared.ledger.workers import WorkerEntry
from distill_queue.shared.line import Line
from distill_queue.shared.skipped import quoted


class Place(NamedTuple):
    """One of the lists that a queue is."""

    queue: str
    priority: str


PLACES = tuple(Place(queue, priority) for queue in QUEUES for priority in PRIORITIES)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The messages in one list."""

    length: int
    #: Seconds for which the next one has waited, by this machine's clock; None if there is none, or it does not say.
    oldest_seconds: float | None


@dataclass(slots=True)
class Taken:
    """The messages of one list that workers have taken."""

    running: int = 0
    #: Those that lie in a worker's memory until they are due.
    later: int = 0


class QueueState(Frozen):
    """How a queue stands at one priority."""

    queue: Line
    priority: Line
    waiting: int
    oldest_seconds: float | None
    #: None where this user may not know.
    running: int | None
    #: Taken by a worker, to be tried again when they are due; None where this user may not know.
    later: int | None
    #: Names of the workers that serve the queue.
    workers: tuple[Line, ...]


class Queues:
    """The queues of a broker: each is a Redis list a priority, and workers hold what they took in one hash."""

    def __init__(self, client: BrokerClient) -> None:
        self._redis: Any = client
        self._unacknowledged, self._skipped = client.names.unacknowledged, client.skipped
        names = (name for queue in QUEUES for name in lists_of(queue, client.names.prefix))
        self._lists: dict[Place, str] = dict(zip(PLACES, names, strict=True))

    def waiting(self) -> dict[Place, Waiting]:
        """What waits in each list, also where no worker serves it; nothing in what is no list; in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name in self._lists.values():
                pipe.llen(name)
                pipe.lindex(name, -1)
            answers = iter(pipe.execute(raise_on_error=False))
        return {place: self._found(next(answers), next(answers)) for place in self._lists}

    def any_waits(self, queues: Collection[str]) -> bool:
        """Whether a message waits in one of some queues; in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for place, name in self._lists.items():
                if place.queue in queues:
                    pipe.exists(name)
            return any(pipe.execute())

    def taken(self) -> dict[Place, Taken]:
        """What workers have taken from each list; what is no message of ours counts nowhere."""
        taken = {place: Taken() for place in PLACES}
        entries: list[str] = []
        with self._skipped.unreadable(self._unacknowledged):
            entries = self._redis.hvals(self._unacknowledged)
        for entry in entries:
            try:
                place, due = _place_and_due(entry)
            except (*UNREADABLE, AttributeError):
                name = self._unacknowledged
                self._skipped.note(f"{name} entries", f"{quoted(name)} at the broker has entries that are no messages")
                continue
            if place not in taken:
                continue
            if due > time.time():
                taken[place].later += 1
            else:
                taken[place].running += 1
        return taken

    def _found(self, length: Any, last: Any) -> Waiting:
        """What waits in a list, as the broker has answered of it."""
        self._skipped.among((length,))
        return Waiting(0, None) if isinstance(length, Exception) else Waiting(length, _waited(last))

    def states(self, workers: Iterable[WorkerEntry]) -> list[QueueState]:
        """How each queue stands at each priority, in the order in which workers look."""
        workers = tuple(workers)
        waiting = self.waiting()
        try:
            taken = self.taken()
        except redis.exceptions.NoPermissionError:
            taken = {}
        return [
            QueueState(
                queue=place.queue,
                priority=place.priority,
                waiting=waiting[place].length,
                oldest_seconds=waiting[place].oldest_seconds,
                running=taken[place].running if taken else None,
                later=taken[place].later if taken else None,
                workers=tuple(worker.name for worker in workers if place.queue in worker.queues),
            )
            for place in PLACES
        ]


def _waited(message: bytes | str | None) -> float | None:
    """Seconds for which a message has waited; None for what is no message of this version."""
    try:
        return seconds_due(json.loads(message or "{}")["headers"])
    except (*UNREADABLE, AttributeError):
        return None


def _place_and_due(entry: bytes | str) -> tuple[Place, float]:
    """Where kombu's entry of a message came from, which may be no place of ours, and when it is due."""
    message, _, queue = json.loads(entry)
    number, due = message["properties"].get("priority", 0), message["headers"].get(DUE, 0.0)
    priority = max((step, name) for name, step in PRIORITIES.items() if step <= number)[1]
    return Place(str(queue), priority), float(due)
