"""Connections: the store of a worker process, and its views of the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from celery import Celery
from celery.utils.log import get_logger

from distill_queue.shared.broker.celery_app import PATIENT_RETRIES, keyring
from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.refusals import Refusals
from distill_queue.shared.ledger.workers import WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped
from distill_queue.shared.store.store import ArtifactStore, store_of
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.gpu_preference import GpuPreference
from distill_queue.worker.coordination.instance import Instance
from distill_queue.worker.coordination.kept_messages import KeptMessages
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.coordination.pages import Pages
from distill_queue.worker.coordination.rescue import Rescue

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of one process; each part of the worker is given the few that it needs."""

    store: ArtifactStore
    submissions: Submissions
    ledger: Ledger
    #: The ledger for notes that may be left out while the broker is away.
    notes: Ledger
    logs: PipelineLogs
    leases: Leases
    attempts: Attempts
    registry: WorkerRegistry
    gpu_preference: GpuPreference
    rescue: Rescue
    pages: Pages
    kept_messages: KeptMessages
    refusals: Refusals
    #: Counters in the broker, such as those of blocks that are given to helpers.
    counters: BrokerClient
    queues: Queues

    @classmethod
    def connect(cls, app: Celery, settings: Settings, instance: Instance, *, patient: bool) -> Self:
        """Connect to the broker and the store.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        metrics = instance.metrics
        client, hasty = connect(settings, retries=PATIENT_RETRIES if patient else 1), connect(settings, retries=0)
        client.skipped = hasty.skipped = Skipped(lambda: metrics.note("records_unreadable"))
        ledger = Ledger(client, settings.history_seconds)
        holding, renewal = settings.holding_seconds, settings.renewal_seconds
        leases = Leases(client, hasty, holding, renewal, metrics, instance.id)
        store = store_of(settings, patient=patient)
        submissions, registry, refusals = Submissions(store), WorkerRegistry(client), Refusals(hasty)
        return cls(
            store,
            submissions,
            ledger,
            Ledger(hasty, settings.history_seconds),
            PipelineLogs(hasty, settings.history_seconds),
            leases,
            Attempts(client, hasty, settings.max_attempts, settings.history_seconds, instance.id),
            registry,
            GpuPreference(client, registry),
            Rescue(client, ledger, leases, submissions, settings),
            Pages(hasty, settings.history_seconds),
            KeptMessages(app, keyring(settings), refusals, patient),
            refusals,
            hasty,
            Queues(hasty),
        )

    def close(self, pipeline: str) -> None:
        """Forget how to send a pipeline again, as it is finished."""
        self.submissions.remove(pipeline)
        self.ledger.close(pipeline)
