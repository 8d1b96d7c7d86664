"""Delivery: keeps the broker from giving a living worker's tasks to another one."""

from __future__ import annotations

import time
from typing import Any

import redis
from celery import Celery, bootsteps
from celery.utils.log import get_logger

from shared.errors import Unavailable
from shared.ledger import connect
from shared.settings import Settings
from worker.lease import Leases
from worker.tasks import wake

logger = get_logger(__name__)


def renew_deliveries(app: Celery, settings: Settings) -> None:
    """Add to the application's workers the step that renews what they hold and wakes whom the dead left waiting."""
    interval = settings.visibility_timeout_seconds / 4

    class RenewDeliveries(bootsteps.StartStopStep):  # type: ignore[misc]
        """Every quarter of the visibility timeout, from the worker's main process."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            self.leases: Leases | None = None
            self.timer = parent.timer.call_repeatedly(interval, self._tick, (parent,))

        def stop(self, _parent: Any) -> None:
            self.timer.cancel()

        def _tick(self, parent: Any) -> None:
            try:
                _renew_unacknowledged(parent.task_consumer.channel)
                self.leases = self.leases or Leases(connect(settings), settings.visibility_timeout_seconds)
                for key in self.leases.free_keys():
                    wake(app, self.leases, key)
            except (redis.RedisError, Unavailable, OSError) as error:
                logger.warning("deliveries were not renewed, trying again in %.0f s: %s", interval, error)

    app.steps["consumer"].add(RenewDeliveries)


def _renew_unacknowledged(channel: Any) -> None:
    """Move the time of every message that this worker holds to now; XX: what was given away stays away."""
    tags = list(channel.qos._delivered)
    if tags:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
