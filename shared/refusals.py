"""Refusals: messages that workers did not obey, kept to be looked at, and counted."""

from __future__ import annotations

from typing import Any

import redis
from pydantic import ValidationError

from shared.line import Line
from shared.records import Model

LAST = "distill:refused"
COUNT = "distill:refused:count"
#: Refusals that are kept, the newest.
KEPT = 100
#: Characters of what the sender wrote that are kept.
LONGEST_TEXT = 2_000


class Refusal(Model):
    """A message that was refused. All but the time, the worker and the reason is what its sender claims."""

    #: Seconds since the epoch, by the worker's clock.
    time: float
    worker: Line
    reason: Line
    task: Line = ""
    queue: Line = ""
    body: str = ""


class Refusals:
    """The last refusals of all workers of a broker, and how many there were."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client

    def enter(self, refusal: Refusal) -> None:
        """Keep a refusal, and count it."""
        with self._redis.pipeline() as pipe:
            pipe.lpush(LAST, refusal.model_dump_json())
            pipe.ltrim(LAST, 0, KEPT - 1)
            pipe.incr(COUNT)
            pipe.execute()

    @property
    def count(self) -> int:
        """How many there were since the broker was emptied."""
        return int(self._redis.get(COUNT) or 0)

    @property
    def last(self) -> Refusal | None:
        """The newest; None if there is none that this version can read."""
        text = self._redis.lindex(LAST, 0)
        try:
            return Refusal.model_validate_json(text) if text else None
        except ValidationError:
            return None
