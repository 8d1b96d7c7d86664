"""Leases: one worker holds a key, and renews it while it works; other tasks for the key are parked until it is free."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import redis

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.errors import LeaseLost
from distill_queue.worker.telemetry.metrics import Metrics

# A lease without an end was not written by a worker: it is given one (by Redis 7 and Valkey). If the set of parked keys
# is of another type, a task that waits for a holder which dies is not found there; nothing else is lost.
_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
redis.pcall('EXPIRE', KEYS[1], ARGV[6], 'NX')
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.pcall('SADD', KEYS[3], ARGV[5])
return 0
"""

# A lease that ran out while the broker was away is still its holder's if no other took it, or if it is no text.
_RENEW = """
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# The message may have been parked again after it was sent.
_UNPARK = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.pcall('SREM', KEYS[2], ARGV[3]) end
"""

_RELEASE = """
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and string.sub(holder, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Lease:
    """The right to work on a key."""

    key: str
    holder: str
    _renew: Callable[[Lease], bool]
    _lost: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> bool:
        """Whether it is known that another worker took over."""
        return self._lost.is_set()

    def abandon(self) -> None:
        """Have the work on the key end at its next step."""
        self._lost.set()

    def check(self) -> None:
        """Raise if it is known that another worker took over.

        Raises:
            LeaseLost: another worker took over.

        """
        if self.lost:
            raise LeaseLost(f"another worker took over the stage {self.key[:8]}")

    def confirm(self) -> None:
        """Ask the broker, and raise if another worker took over.

        Raises:
            LeaseLost: another worker took over.

        """
        self.renew()
        self.check()

    def renew(self) -> bool:
        """Put off the lease's end, or note that it is lost; False where the broker is away."""
        try:
            if not self._lost.is_set() and not self._renew(self):
                self._lost.set()
                logger.warning("lease %s %s lost", self.key, self.holder)
        except redis.RedisError:
            return False
        return True


class Leases:
    """The leases of one broker."""

    def __init__(
        self,
        client: BrokerClient,
        hasty: BrokerClient,
        holding_seconds: float,
        renewal_seconds: float,
        metrics: Metrics,
        instance: str,
    ) -> None:
        """Take two clients; `hasty` does not wait for a broker that is away, and is for renewals.

        `instance` tells workers of the same name apart, so that each gives up its own leases only.
        """
        self._redis: Any = client
        self._names, self._skipped = client.names, client.skipped
        self._holding_ms = int(holding_seconds * 1000)
        self._renewal_seconds = renewal_seconds
        self._metrics = metrics
        self._instance = instance
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._renew = hasty.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)
        self._unpark = self._redis.register_script(_UNPARK)

    def acquire(self, key: str, worker: str, task_id: str, message: str) -> Lease | None:
        """Take the lease of a key; if another task holds it, park this task's message and return None."""
        holder = f"{self._of(worker, task_id)}{uuid.uuid4().hex}"
        parked = f"{uuid.uuid4().hex} {message}"
        keys = [self._names.lease(key), self._names.parked(key), self._names.parked_keys]
        end = ceil(self._holding_ms / 1000)
        if not self._acquire(keys=keys, args=[holder, self._holding_ms, task_id, parked, key, end]):
            return None
        logger.info("lease %s %s taken", key, holder)
        return Lease(key, holder, self._renew_in_broker)

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
            self._release(keys=[self._names.lease(lease.key)], args=[lease.holder])
            logger.info("lease %s %s released", lease.key, lease.holder)

    def release_of_the_dead(self, key: str, worker: str, task_id: str) -> bool:
        """Give up the lease that a worker's dead child held for a task; return whether it held one."""
        of_task = self._of(worker, task_id)
        held = bool(self._release(keys=[self._names.lease(key)], args=[of_task]))
        if held:
            logger.info("lease %s %s released for the dead", key, of_task)
        return held

    def held(self, key: str) -> bool:
        """Whether a worker works on a key."""
        name = self._names.lease(key)
        return bool(self._redis.exists(name)) and not end_at_last(self._redis, name, self._holding_ms / 1000)

    def unpark(self, key: str, send: Callable[[str], None]) -> None:
        """Send the messages that wait for a key, and forget each once it is sent."""
        waiting: dict[str, str] = {}
        with self._skipped.unreadable(self._names.parked(key)):
            waiting = self._redis.hgetall(self._names.parked(key))
        for task_id, parked in waiting.items():
            send(parked.partition(" ")[2])
            self._unpark(keys=[self._names.parked(key), self._names.parked_keys], args=[task_id, parked, key])

    def free_keys(self) -> list[str]:
        """Keys whose holder died while tasks wait for them; none if another worker looked for them just now."""
        if not self._redis.set(self._names.looked, "", nx=True, px=int(self._renewal_seconds * 500)):
            end_at_last(self._redis, self._names.looked, self._renewal_seconds)
            return []
        keys = sorted(self._redis.smembers(self._names.parked_keys))
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.exists(self._names.lease(key))
            return [key for key, held in zip(keys, pipe.execute(), strict=True) if not held]

    def _of(self, worker: str, task_id: str) -> str:
        return f"{worker}#{self._instance}/{task_id}/"

    def _renew_in_broker(self, lease: Lease) -> bool:
        renewed = bool(self._renew(keys=[self._names.lease(lease.key)], args=[lease.holder, self._holding_ms]))
        self._metrics.note("lease_renewals" if renewed else "leases_lost")
        return renewed

    def _keep(self, lease: Lease, ended: threading.Event) -> None:
        wait, parent = self._renewal_seconds, os.getppid()
        while not ended.wait(wait):
            if os.getppid() != parent:  # The main process is dead, which ends this stage on a limit or a signal.
                lease.abandon()
                return
            # When the broker comes back, renew before another task takes what seems abandoned.
            wait = self._renewal_seconds if lease.renew() else min(0.5, self._renewal_seconds)


def end_at_last(client: Any, name: str, seconds: float) -> bool:
    """Let a key that would last for ever expire, as all do that workers write; return whether it had no end.

    A mark or a lease that never ends would keep all workers from the work that it stands for. Servers before Redis 7
    cannot do this.
    """
    try:
        return bool(client.expire(name, ceil(seconds), nx=True))
    except redis.ResponseError:
        return False
