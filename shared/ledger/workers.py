"""Workers that are there: each writes its own entry every few seconds, which expires soon after the worker ends."""

from __future__ import annotations

import os
import platform
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from typing import Any, Self

from pydantic import ConfigDict

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import Line
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.skipped import quoted

#: Packages whose versions matter to what a worker computes or understands.
PACKAGES = ("distill-queue", "celery", "torch", "numpy")


class WorkerEntry(Frozen):
    """A worker as it describes itself."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Line
    host: Line
    pid: int
    queues: tuple[Line, ...]
    versions: dict[Line, Line]
    stage_format: int
    #: Where it looks for artifacts.
    store: Line
    #: The tasks that it was at, in words.
    does: Line = ""
    #: Names of the keys whose messages it obeys; none: it obeys what is not signed.
    keys: tuple[Line, ...] = ()
    #: What is wrong with it, and the way out, in words; empty where nothing is.
    trouble: Line = ""
    #: Seconds since the epoch, by the worker's own clock.
    seen: float

    @classmethod
    def of_this_process(
        cls,
        name: str,
        queues: tuple[str, ...],
        store: str,
        does: str = "",
        keys: tuple[str, ...] = (),
        trouble: str = "",
    ) -> Self:
        """The entry of the worker that this process is."""
        return cls(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=queues,
            versions=installed_versions(),
            stage_format=STAGE_FORMAT,
            store=store,
            does=does,
            keys=keys,
            trouble=trouble,
            seen=time.time(),
        )

    def obeys(self, signs_as: str) -> bool:
        """Whether the worker obeys messages signed with a key of that name, or unsigned ones if the name is empty."""
        return signs_as in self.keys if signs_as else not self.keys


class WorkerRegistry:
    """One expiring entry a worker."""

    def __init__(self, client: BrokerClient) -> None:
        self._redis: Any = client
        self._names, self._skipped = client.names, client.skipped
        self._called = False

    def enter(self, entry: WorkerEntry, seconds: float, instance: str) -> str:
        """Enter a worker for some more seconds; return where another worker of its name is, in words, or nothing.

        Another worker of the name is there if it called here after this worker's last call. A worker that died calls no
        more, so the one that was started in its place has no namesake.

        Args:
            entry: the worker.
            seconds: for how long it is there.
            instance: what tells it from another one of its name.

        """
        call = f"{instance} {entry.host} (process {entry.pid})"
        with self._redis.pipeline(transaction=False) as pipe:
            # Defaults are left out: clients of an older version may not know these fields.
            text = entry.model_dump_json(exclude_defaults=True)
            pipe.set(self._names.worker(entry.name), text, px=int(seconds * 1000))
            pipe.sadd(self._names.workers, entry.name)
            pipe.expire(self._names.workers, 2 * ceil(seconds))
            if {"gpu", "any"} <= set(entry.queues):
                pipe.set(self._names.gpus, "", px=int(seconds * 1000))
            pipe.set(self._names.worker_called(entry.name), call, px=int(seconds * 1000), get=True)
            # A key of another type loses its own part, and no other.
            last = self._skipped.among(pipe.execute(raise_on_error=False))[-1]
        last = last if last and isinstance(last, str) else call
        of_itself = not self._called or last.startswith(f"{instance} ")
        self._called = True
        return "" if of_itself else str(last.partition(" ")[2])

    def has_gpu_for_any(self) -> bool:
        """Whether a worker is there that takes tasks of the queue `any` to a GPU; asks for no worker's entry."""
        return bool(self._redis.exists(self._names.gpus))

    def workers(self) -> list[WorkerEntry]:
        """The workers that are there, by name, but for those whose version has entries that this one cannot read."""
        names: list[str] = []
        with self._skipped.unreadable(self._names.workers):
            names = sorted(self._redis.smembers(self._names.workers))
        texts = self._redis.mget(map(self._names.worker, names)) if names else []
        if gone := [name for name, text in zip(names, texts, strict=True) if not text]:
            self._redis.srem(self._names.workers, *gone)  # A worker that is there after all enters itself again soon.
        found = []
        for name, text in zip(names, texts, strict=True):
            with self._skipped.unreadable(self._names.worker(name)):
                found += [WorkerEntry.read(text, f"the entry of the worker {quoted(name)}")] if text else []
        return found


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
