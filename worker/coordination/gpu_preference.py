"""GPU preference: a stage that may run anywhere is left to the workers with a GPU, once."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.ledger.workers import WorkerRegistry

#: Seconds for which it is remembered that a task was offered.
REMEMBERED_SECONDS = 60
#: Seconds before a task is put back: the worker that has just ended the stage before it is then free to take it.
PAUSE_SECONDS = 0.05
#: Seconds between two looks for workers with a GPU. A worker that notices a new one too late does a task itself, which
#: is allowed; one that counts on a GPU that is gone puts a task back once, and gets it again.
LOOK_SECONDS = 5.0


class GpuPreference:
    """Decides for a worker without a GPU whether it leaves a task of the queue `any` to others."""

    def __init__(self, client: BrokerClient, registry: WorkerRegistry) -> None:
        self._redis: Any = client
        self._names = client.names
        self._registry = registry
        self._gpu_is_there = False
        self._next_look = 0.0

    def should_leave(self, task_id: str, queue: str, worker: str, serves: Collection[str]) -> bool:
        """Whether to put a task back for a worker with a GPU; a task that none of them takes comes back, and stays."""
        if queue != "any" or "gpu" in serves or not self._look_for_a_gpu():
            return False
        if not self._redis.set(self._names.offered(task_id), worker, nx=True, ex=REMEMBERED_SECONDS):
            return False
        time.sleep(PAUSE_SECONDS)
        return True

    def _look_for_a_gpu(self) -> bool:
        """Whether a worker with a GPU was there a short time ago."""
        if time.monotonic() >= self._next_look:
            self._gpu_is_there = self._registry.has_gpu_for_any()
            self._next_look = time.monotonic() + LOOK_SECONDS
        return self._gpu_is_there
