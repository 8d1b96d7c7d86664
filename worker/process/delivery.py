"""Delivery: keeps the broker from giving a living worker's tasks to another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery, bootsteps
from celery.utils.log import get_logger
from celery.worker.state import active_requests
from kombu.exceptions import OperationalError

from distill_queue.shared.broker.celery_app import keyring
from distill_queue.shared.broker.client import wrong_type
from distill_queue.shared.catalog import QUEUES
from distill_queue.shared.errors import Unavailable, UnreadableRecord
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped, quoted
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.coordination.kept_messages import KeptMessages
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.coordination.rescue import Rescue
from distill_queue.worker.process.main_process import MainProcess
from distill_queue.worker.telemetry.metrics import Metrics

#: Errors that say that the broker is away, themselves or as the cause of another error.
AWAY = (redis.ConnectionError, redis.TimeoutError)

logger = get_logger(__name__)


def renew_deliveries(app: Celery, settings: Settings, main_process: MainProcess) -> None:
    """Add to the application's workers a step that renews their messages and wakes the parked tasks of dead workers."""
    instance, watchdog, connections = main_process.instance, main_process.watchdog, main_process.connections
    metrics, key_names = instance.metrics, keyring(settings).names
    skipped = Skipped(lambda: metrics.note("records_unreadable"))

    class RenewDeliveries(bootsteps.StartStopStep):  # type: ignore[misc]
        """Runs eight times in a visibility timeout, in the worker's main process."""

        requires = ("celery.worker.consumer.tasks:Tasks",)
        namesake, namesake_until = "", 0.0

        def start(self, parent: Any) -> None:
            metrics.note("broker_connections")
            parent.timer.call_after(0, self._tick, (parent,))
            self.timer = parent.timer.call_repeatedly(settings.renewal_seconds, self._tick, (parent,))

        def stop(self, _parent: Any) -> None:
            self.timer.cancel()

        def _tick(self, parent: Any) -> None:
            parts: dict[str, Callable[[], object]] = {
                "deliveries were not renewed": lambda: _renew_unacknowledged(parent.task_consumer.channel),
                "the worker was not entered into the roster": lambda: self._enter(connections().registry, parent),
                "queues were not measured": lambda: _note_queues(connections().queues, metrics) if metrics.on else None,
                "tasks that wait were not woken": lambda: _wake(
                    connections().leases, connections().kept_messages, skipped
                ),
                "pipelines that stand still were not sent again": self._rescue,
            }
            for left_undone, part in parts.items():
                try:
                    with guarded(left_undone, skipped):
                        part()
                except (redis.RedisError, Unavailable, OperationalError) as error:
                    logger.warning("%s, trying again soon: %s", left_undone, error)
                    return

        def _rescue(self) -> None:
            here = connections()
            _send_again(here.rescue, here.submissions, here.kept_messages, here.logs, skipped)

        def _enter(self, registry: WorkerRegistry, parent: Any) -> None:
            stuck = watchdog.stuck
            queues = () if stuck else tuple(queue.name for queue in parent.task_consumer.queues)
            does = ", ".join(request.kwargsrepr for request in active_requests)
            store, trouble = settings.anywhere.store, stuck or self._namesakes
            entry = WorkerEntry.of_this_process(parent.hostname, queues, store, does, key_names, trouble)
            self._note_namesake(registry.enter(entry, settings.holding_seconds, instance.id))

        @property
        def _namesakes(self) -> str:
            """What to do about another worker of this name; empty unless one was there within a visibility timeout."""
            if time.monotonic() > self.namesake_until:
                return ""
            return f"another worker of this name is on {self.namesake}: give each its own, by --name or the host's"

        def _note_namesake(self, where: str) -> None:
            if where:
                new = not self._namesakes
                self.namesake, self.namesake_until = where, time.monotonic() + settings.holding_seconds
                if new:
                    logger.error("%s", self._namesakes)

    app.steps["consumer"].add(RenewDeliveries)


@contextmanager
def guarded(left_undone: str, skipped: Skipped) -> Iterator[None]:
    """Run a part of the housekeeping, or its work for one key or pipeline; log its failure, so that the others run too.

    Raises:
        Exception: the broker is away; the other parts would wait for it, too, and hold up the worker.

    """
    try:
        yield
    except UnreadableRecord as error:
        skipped.note(str(error), f"{left_undone}: {error}")
    except (redis.RedisError, Unavailable, OperationalError, OSError) as error:
        if isinstance(error, AWAY) or isinstance(error.__cause__, AWAY):
            raise
        logger.warning("%s, trying again soon: %s", left_undone, error)
    except Exception:
        logger.exception("%s: a bug", left_undone)


def _wake(leases: Leases, kept_messages: KeptMessages, skipped: Skipped) -> None:
    """Send the tasks that wait for keys which are free."""
    for key in leases.free_keys():
        with guarded(f"tasks that wait for {quoted(key)} were not woken", skipped):
            leases.unpark(key, kept_messages.send)


def _send_again(
    rescue: Rescue, submissions: Submissions, kept_messages: KeptMessages, logs: PipelineLogs, skipped: Skipped
) -> None:
    """Send pipelines again that stand still."""
    for pipeline in rescue.stranded():
        with guarded(f"{pipeline} stands still and was not sent again", skipped):
            if submission := submissions.find(pipeline):
                logger.warning("%s stands still, and nothing is queued for it: it is sent again", pipeline)
                kept_messages.send(submission.canvas)
                logs.note(pipeline, "", (), "stood still, with nothing queued: sent again", "WARNING")


def _renew_unacknowledged(channel: Any) -> None:
    """Move the time of every message that this worker holds to now; XX leaves alone messages that were given away."""
    tags = list(channel.qos._delivered)
    if tags:
        with channel.conn_or_acquire() as client:
            try:
                client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            except redis.ResponseError as error:
                raise wrong_type(error, ("ZADD", channel.unacked_index_key)) or error from error


def _note_queues(queues: Queues, metrics: Metrics) -> None:
    """Measure all queues, also those that no worker serves: tasks that never begin appear in no histogram."""
    places = queues.waiting()
    for queue in QUEUES:
        lists = [waiting for place, waiting in places.items() if place.queue == queue]
        metrics.note("queue_length", queue, value=sum(waiting.length for waiting in lists))
        oldest_seconds = max(waiting.oldest_seconds or 0.0 for waiting in lists)
        metrics.note("queue_oldest_seconds", queue, value=oldest_seconds)
