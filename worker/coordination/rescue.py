"""Rescue: sends pipelines again whose messages the broker has lost."""

from __future__ import annotations

import time
from typing import Any

from celery.utils.log import get_logger

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.errors import StoreUnavailable, UnknownPipeline
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.status import State
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.coordination.leases import Leases, end_at_last

#: Seconds for which a task may lie in a worker's memory before it is tried again, with some to spare.
LONGEST_SILENCE_SECONDS = 75.0

logger = get_logger(__name__)


class Rescue:
    """Looks for pipelines that stand still: nothing is queued, and no worker works on a stage that they need.

    A server that is killed may forget the last second or two, even with an append-only file: messages that were
    handed on in that time are gone. Sending a pipeline again is harmless: finished results are found in the store.
    """

    def __init__(
        self, client: BrokerClient, ledger: Ledger, leases: Leases, submissions: Submissions, settings: Settings
    ) -> None:
        self._redis: Any = client
        self._names, self._skipped, self._queues = client.names, client.skipped, Queues(client)
        self._ledger, self._leases, self._submissions = ledger, leases, submissions
        self._silence_seconds = max(LONGEST_SILENCE_SECONDS, 2 * settings.holding_seconds)
        self._pause_ms = int(settings.holding_seconds * 1000)

    def stranded(self) -> list[str]:
        """Pipelines to be sent again; none if another worker looked just now.

        A pipeline that this version cannot read is left to workers of the version that wrote it.
        """
        if not self._redis.set(self._names.rescue, "", nx=True, px=self._pause_ms):
            end_at_last(self._redis, self._names.rescue, self._pause_ms / 1000)
            return []
        if any(waiting.length for waiting in self._queues.waiting().values()):
            return []
        silent = self._ledger.untouched_since(time.time() - self._silence_seconds)
        found = []
        for pipeline in silent:
            try:
                with self._skipped.unreadable(pipeline):
                    found += [pipeline] if self._stands_still(pipeline) else []
            except StoreUnavailable as error:  # Perhaps only this pipeline's file cannot be read.
                logger.warning("%s: it is not known whether it stands still: %s", pipeline, error)
        return found

    def _stands_still(self, pipeline: str) -> bool:
        try:
            status = self._ledger.status(pipeline)
        except UnknownPipeline:  # Its history has run out.
            self._ledger.close(pipeline)
            return False
        if status.finished:
            self._submissions.remove(pipeline)
            self._ledger.close(pipeline)
            return False
        self._ledger.touch(pipeline)
        return not any(self._leases.held(key) for key, state in status.states.items() if state.state != State.DONE)
