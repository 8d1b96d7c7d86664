"""Refusals: messages that workers did not obey, kept to be looked at, and counted."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import Line, Lines

#: Refusals that are kept, the newest.
KEPT = 100
#: Characters of what the sender wrote that are kept.
LONGEST_TEXT = 2_000
#: Digits of a count that Redis keeps, with one to spare.
LONGEST_COUNT = 20


class Refusal(Frozen):
    """A message that was refused. All but the time, the worker and the reason is what its sender claims."""

    model_config = ConfigDict(allow_inf_nan=False)

    #: Seconds since the epoch, by the worker's clock.
    time: float
    worker: Line
    reason: Line
    task: Line = ""
    queue: Line = ""
    body: Lines = ""


class Refusals:
    """The last refusals of all workers of a broker, and how many there were."""

    def __init__(self, client: BrokerClient) -> None:
        self._redis: Any = client
        self._names, self._skipped = client.names, client.skipped

    def enter(self, refusal: Refusal) -> None:
        """Keep a refusal, and count it."""
        with self._redis.pipeline() as pipe:
            pipe.lpush(self._names.refused, refusal.model_dump_json())
            pipe.ltrim(self._names.refused, 0, KEPT - 1)
            pipe.incr(self._names.refused_count)
            self._skipped.among(pipe.execute(raise_on_error=False))

    @property
    def count(self) -> int:
        """How many there were since the broker was emptied; 0 where what counts them is no number."""
        text = self._redis.get(self._names.refused_count) or "0"
        return int(text) if text.isdecimal() and len(text) < LONGEST_COUNT else 0

    @property
    def last(self) -> Refusal | None:
        """The newest; None if there is none that this version can read."""
        with self._skipped.unreadable(self._names.refused):
            if text := self._redis.lindex(self._names.refused, 0):
                return Refusal.read(text, f"the last entry of {self._names.refused}")
        return None
