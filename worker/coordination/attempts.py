"""Attempts: how often a stage was begun without making progress, and how each attempt ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.errors import StageFailed, UnreadableRecord
from distill_queue.shared.frozen import UNREADABLE

_BEGUN = "died with its worker"


class Attempts:
    """A list for each key in the broker, which starts anew whenever the stage makes progress."""

    def __init__(
        self, client: BrokerClient, hasty: BrokerClient, limit: int, history_seconds: int, instance: str
    ) -> None:
        """Take two clients; `hasty` does not wait for a broker that is away, and is for what may be left out.

        `instance` tells workers of the same name apart, so that each ends its own attempts only.
        """
        self._redis: Any = client
        self._names = client.names
        self._hasty: Any = hasty
        self._limit = limit
        self._history_seconds = history_seconds
        self._instance = instance

    def begin(self, keys: Sequence[str], worker: str) -> int:
        """Note that a worker begins stages; return the number of this attempt, for the stage that had the most.

        Raises:
            StageFailed: the attempts of a stage are used up; the message says how they ended.

        """
        with self._redis.pipeline() as pipe:
            for key in keys:
                pipe.lrange(self._names.attempts(key), 0, -1)
                self._push(pipe, key, *self._begun(worker))
            before = pipe.execute()[::3]
        try:
            return max(map(self._count, before)) + 1
        except StageFailed:
            self.withdraw(keys, worker)
            raise

    def end(self, keys: Sequence[str], worker: str, reason: str) -> None:
        """Note how a worker's attempt ended.

        Raises:
            StageFailed: it was the last one allowed.

        """
        self.withdraw(keys, worker)
        for key in keys:
            self._append(key, worker, reason)
        for key in keys:
            self._count(self._redis.lrange(self._names.attempts(key), 0, -1))

    def _count(self, texts: Sequence[str]) -> int:
        """The number of attempts; raises `StageFailed` if they are used up."""
        attempts = [attempt for text in texts if (attempt := _read(text))]
        if len(attempts) >= self._limit:
            how = "; ".join(
                f"{number}. on {worker.partition('#')[0]}: {reason}"
                for number, (worker, reason) in enumerate(attempts, 1)
            )
            raise StageFailed(f"given up after {len(attempts)} attempts: {how}")
        return len(attempts)

    def blame(self, keys: Sequence[str], worker: str, reason: str) -> None:
        """Note how an attempt ended whose child died, and so could not note it itself.

        Of several stages the one counts that the child had begun. If it had begun none, the message itself seems to
        kill, and all count.
        """
        begun = self.withdraw(keys, worker)
        for key in begun or keys:
            self._append(key, worker, reason)

    def got_further(self, keys: Sequence[str], worker: str) -> None:
        """Begin to count anew with the present attempt, which made progress that will not be lost.

        While the broker is away the stage goes on, and the old count stays until the stage makes progress again.
        """
        with suppress(redis.RedisError, UnreadableRecord), self._hasty.pipeline() as pipe:
            for key in keys:
                pipe.delete(self._names.attempts(key))
                self._push(pipe, key, *self._begun(worker))
            pipe.execute()

    def withdraw(self, keys: Sequence[str], worker: str) -> list[str]:
        """Do not count a worker's attempt, which the stage did not end; return the keys for which it had begun one.

        An attempt of another worker that took over meanwhile stands behind it, and stays.
        """
        begun = json.dumps(self._begun(worker))
        return [key for key in keys if self._redis.lrem(self._names.attempts(key), -1, begun)]

    def forget(self, keys: Sequence[str]) -> None:
        """Begin to count anew, without an attempt: the stages made progress, or have ended."""
        for key in keys:
            self._redis.delete(self._names.attempts(key))

    def _begun(self, worker: str) -> tuple[str, str]:
        return f"{worker}#{self._instance}", _BEGUN

    def _append(self, key: str, worker: str, reason: str) -> None:
        with self._redis.pipeline() as pipe:
            self._push(pipe, key, worker, reason)
            pipe.execute()

    def _push(self, pipe: Any, key: str, worker: str, reason: str) -> None:
        pipe.rpush(self._names.attempts(key), json.dumps([worker, reason]))
        pipe.expire(self._names.attempts(key), self._history_seconds)


def _read(text: str) -> tuple[str, str] | None:
    """The worker of an attempt and how the attempt ended; None if the text is no attempt."""
    try:
        worker, reason, *_ = json.loads(text)
    except UNREADABLE:
        return None
    return (worker, reason) if isinstance(worker, str) and isinstance(reason, str) else None
