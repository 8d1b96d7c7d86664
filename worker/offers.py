"""Offers: a stage that may run anywhere is left to the workers with a GPU, once."""

from __future__ import annotations

import time
from typing import Any

import redis

from shared.roster import Roster

#: Seconds for which it is remembered that a task was offered.
REMEMBERED_SECONDS = 60
#: Seconds before a task is put back: whoever has just ended the stage before it is then free to take it.
PAUSE_SECONDS = 0.05


class Offers:
    """What a worker without a GPU does with a task of the queue `any` before it begins."""

    def __init__(self, client: redis.Redis, roster: Roster) -> None:
        self._redis: Any = client
        self._roster = roster

    def should_leave(self, task_id: str, queue: str, worker: str) -> bool:
        """Whether to put a task back for a worker with a GPU; a task that none of them takes comes back, and stays."""
        if queue != "any":
            return False
        entries = {entry.name: entry for entry in self._roster.workers()}
        if worker not in entries or "gpu" in entries[worker].queues:
            return False
        if not any({"gpu", "any"} <= set(entry.queues) for entry in entries.values()):
            return False
        if not self._redis.set(f"distill:offered:{task_id}", worker, nx=True, ex=REMEMBERED_SECONDS):
            return False
        time.sleep(PAUSE_SECONDS)
        return True
