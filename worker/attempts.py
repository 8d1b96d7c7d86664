"""Attempts: how often a stage was begun without getting any further, and how each of those ended."""

from __future__ import annotations

import json
from typing import Any

import redis

from shared.errors import StageFailed


class Attempts:
    """A list a key in the broker; it starts anew whenever the stage makes progress."""

    def __init__(self, client: redis.Redis, limit: int, history_seconds: int) -> None:
        self._redis: Any = client
        self._limit = limit
        self._history_seconds = history_seconds

    def begin(self, key: str, worker: str) -> None:
        """Note that a worker begins a stage.

        Raises:
            StageFailed: the attempts are used up; the message says how they ended.

        """
        self.check(key)
        self._append(key, worker, "died with its worker")

    def end(self, key: str, worker: str, reason: str) -> None:
        """Note how the last attempt ended.

        Raises:
            StageFailed: it was the last one allowed.

        """
        self._redis.rpop(_list(key))
        self._append(key, worker, reason)
        self.check(key)

    def check(self, key: str) -> None:
        """Raise where no attempt is left.

        Raises:
            StageFailed: the message names each attempt's worker and how it ended.

        """
        attempts = [json.loads(text) for text in self._redis.lrange(_list(key), 0, -1)]
        if len(attempts) >= self._limit:
            how = "; ".join(f"{number}. on {worker}: {reason}" for number, (worker, reason) in enumerate(attempts, 1))
            raise StageFailed(f"given up after {len(attempts)} attempts: {how}")

    def withdraw(self, key: str) -> None:
        """Do not count the last attempt: it was not the stage that ended it."""
        self._redis.rpop(_list(key))

    def forget(self, key: str) -> None:
        """Begin to count anew: the stage got further, or has ended."""
        self._redis.delete(_list(key))

    def _append(self, key: str, worker: str, reason: str) -> None:
        with self._redis.pipeline() as pipe:
            pipe.rpush(_list(key), json.dumps([worker, reason]))
            pipe.expire(_list(key), self._history_seconds)
            pipe.execute()


def _list(key: str) -> str:
    return f"distill:attempts:{key}"
