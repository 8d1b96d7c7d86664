"""Leases: one worker a key, renewed while it works; whoever else wants the key is parked until it is free."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from shared.errors import LeaseLost

# A redelivered task may take over its own lease at once: its holder died, or was given up by the broker.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, #ARGV[1] + 1) ~= ARGV[1] .. '/' then
  redis.call('RPUSH', KEYS[2], ARGV[4])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1] .. '/' .. ARGV[2], 'PX', ARGV[3])
return 1
"""

_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(slots=True)
class Lease:
    """The right to work on a key; `check` says whether it still holds."""

    key: str
    token: str
    _lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise where another worker took over.

        Raises:
            LeaseLost: it did.

        """
        if self._lost.is_set():
            raise LeaseLost(f"another worker took over the stage {self.key[:8]}")

    def lose(self) -> None:
        """Note that another worker took over."""
        self._lost.set()


class Leases:
    """The leases of one broker."""

    def __init__(self, client: redis.Redis, timeout_seconds: float) -> None:
        self._redis: Any = client
        self._timeout_ms = int(timeout_seconds * 1000)
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    def acquire(self, key: str, task_id: str, message: str) -> Lease | None:
        """The lease of a key; where another task holds it, park this task's message and return None."""
        token = uuid.uuid4().hex
        arguments: list[str | int] = [task_id, token, self._timeout_ms, message]
        if self._acquire(keys=[_lease(key), _parked(key)], args=arguments):
            return Lease(key, f"{task_id}/{token}")
        return None

    @contextmanager
    def kept(self, lease: Lease) -> Iterator[None]:
        """Renew a lease from a thread while the block runs, and give it up at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(lease, ended), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._release(keys=[_lease(lease.key)], args=[lease.token])

    def parked(self, key: str) -> list[str]:
        """The messages that wait for a key."""
        messages: list[str] = self._redis.lrange(_parked(key), 0, -1)
        return messages

    def unpark(self, key: str, message: str) -> None:
        """Forget a message, once it stands in its queue again."""
        self._redis.lrem(_parked(key), 1, message)

    def free_keys(self) -> list[str]:
        """Keys that tasks wait for although nobody holds them: their holder died."""
        keys = [name.rpartition(":")[2] for name in self._redis.scan_iter(_parked("*"))]
        return [key for key in keys if not self._redis.exists(_lease(key))]

    def _keep(self, lease: Lease, ended: threading.Event) -> None:
        while not ended.wait(self._timeout_ms / 4000):
            try:
                if not self._renew(keys=[_lease(lease.key)], args=[lease.token, self._timeout_ms]):
                    lease.lose()
                    return
            except redis.RedisError:
                continue  # The broker is away: the lease stands until it expires or somebody takes it.


def _lease(key: str) -> str:
    return f"distill:lease:{key}"


def _parked(key: str) -> str:
    return f"distill:parked:{key}"
