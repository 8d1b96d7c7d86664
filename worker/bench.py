"""The bench: what a worker process holds to do stages: its store and its views of the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import redis
from celery import Celery
from kombu.utils.json import loads

from shared.broker import PATIENT_RETRIES
from shared.ledger import Ledger, connect
from shared.logbook import Logbook
from shared.roster import Roster
from shared.settings import Settings
from shared.store import ArtifactStore
from shared.submissions import Submissions
from worker.attempts import Attempts
from worker.lease import Leases
from worker.metrics import Metrics
from worker.offers import Offers
from worker.rescue import Rescue
from worker.stop import Stop


@dataclass(frozen=True, slots=True)
class Bench:
    """The connections of one process."""

    settings: Settings
    #: Whether to wait for a broker that is away, as stages do and a worker's main process must not.
    patient: bool
    app: Celery
    stop: Stop
    store: ArtifactStore
    submissions: Submissions
    ledger: Ledger
    #: For what may be left out while the broker is away.
    notes: Ledger
    logbook: Logbook
    leases: Leases
    attempts: Attempts
    roster: Roster
    offers: Offers
    rescue: Rescue
    #: The broker's counters, as of blocks that are given away.
    counters: redis.Redis
    metrics: Metrics

    @classmethod
    def connect(cls, app: Celery, settings: Settings, stop: Stop, metrics: Metrics, *, patient: bool) -> Self:
        """Connect to the broker and the store.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        client, hasty = connect(settings, retries=PATIENT_RETRIES if patient else 1), connect(settings, retries=0)
        ledger = Ledger(client, settings.history_seconds)
        leases = Leases(client, hasty, settings.holding_seconds, settings.renewal_seconds, metrics)
        submissions, roster = Submissions(settings.store), Roster(client)
        return cls(
            settings,
            patient,
            app,
            stop,
            ArtifactStore(settings.store),
            submissions,
            ledger,
            Ledger(hasty, settings.history_seconds),
            Logbook(hasty, settings.history_seconds),
            leases,
            Attempts(client, settings.max_attempts, settings.history_seconds),
            roster,
            Offers(client, roster),
            Rescue(client, ledger, leases, submissions, settings),
            hasty,
            metrics,
        )

    def close(self, pipeline: str) -> None:
        """Forget how to send a pipeline again: it is finished."""
        self.submissions.remove(pipeline)
        self.ledger.close(pipeline)

    def wake(self, key: str) -> None:
        """Put the tasks that wait for a key into their queues again, to find its result or to take it over."""
        self.leases.unpark(key, self.send)

    def send(self, message: str) -> None:
        """Send a task or a canvas, as JSON."""
        self.app.signature(loads(message)).apply_async(retry=self.patient)
