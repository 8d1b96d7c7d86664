"""The bench: what a worker process holds to do stages: its store and its views of the broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from celery import Celery

from shared.broker import PATIENT_RETRIES
from shared.ledger import Ledger, connect
from shared.roster import Roster
from shared.settings import Settings
from shared.store import ArtifactStore
from shared.submissions import Submissions
from worker.attempts import Attempts
from worker.lease import Leases
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
    leases: Leases
    attempts: Attempts
    roster: Roster

    @classmethod
    def connect(cls, app: Celery, settings: Settings, stop: Stop, *, patient: bool) -> Self:
        """Connect to the broker and the store.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        client, hasty = connect(settings, retries=PATIENT_RETRIES if patient else 1), connect(settings, retries=0)
        return cls(
            settings,
            patient,
            app,
            stop,
            ArtifactStore(settings.store),
            Submissions(settings.store),
            Ledger(client, settings.history_seconds),
            Ledger(hasty, settings.history_seconds),
            Leases(client, hasty, settings.holding_seconds, settings.renewal_seconds),
            Attempts(client, settings.max_attempts, settings.history_seconds),
            Roster(client),
        )

    def wake(self, key: str) -> None:
        """Put the tasks that wait for a key into their queues again, to find its result or to take it over."""
        for task_id, message in self.leases.parked(key).items():
            self.app.signature(json.loads(message)).apply_async(retry=self.patient)
            self.leases.unpark(key, task_id)
