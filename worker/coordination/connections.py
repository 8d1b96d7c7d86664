"""Connections: what a worker process holds to do stages: its store and its views of the broker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from platform import node
from typing import TYPE_CHECKING, Self

import redis
from celery import Celery
from celery.canvas import Signature
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps, loads

from distill_queue.shared.broker.celery_app import PATIENT_RETRIES, keyring
from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.errors import UnreadableRecord, Untrusted
from distill_queue.shared.frozen import UNREADABLE
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.refusals import LONGEST_TEXT, Refusal, Refusals
from distill_queue.shared.ledger.workers import WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped
from distill_queue.shared.store.store import ArtifactStore, store_of
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.gpu_preference import GpuPreference
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.coordination.pages import Pages
from distill_queue.worker.coordination.pulse import Pulse
from distill_queue.worker.coordination.rescue import Rescue
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.machine.last_value import LastValue
from distill_queue.worker.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import torch

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of one process."""

    settings: Settings
    #: Whether to wait for a broker that is away, as stages do and a worker's main process must not.
    patient: bool
    app: Celery
    stop: Stop
    pulse: Pulse
    store: ArtifactStore
    submissions: Submissions
    ledger: Ledger
    #: For what may be left out while the broker is away.
    notes: Ledger
    logs: PipelineLogs
    leases: Leases
    attempts: Attempts
    registry: WorkerRegistry
    gpu_preference: GpuPreference
    rescue: Rescue
    pages: Pages
    keyring: Keyring
    refusals: Refusals
    #: The broker's counters, as of blocks that are given away.
    counters: BrokerClient
    queues: Queues
    metrics: Metrics
    #: A teacher's logits on the test set: kept from one evaluation to the next.
    teacher_on_test: LastValue[torch.Tensor] = field(default_factory=LastValue)

    @classmethod
    def connect(
        cls, app: Celery, settings: Settings, stop: Stop, pulse: Pulse, metrics: Metrics, *, patient: bool
    ) -> Self:
        """Connect to the broker and the store.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        client, hasty = connect(settings, retries=PATIENT_RETRIES if patient else 1), connect(settings, retries=0)
        client.skipped = hasty.skipped = Skipped(lambda: metrics.note("records_unreadable"))
        ledger = Ledger(client, settings.history_seconds)
        holding, renewal = settings.holding_seconds, settings.renewal_seconds
        leases = Leases(client, hasty, holding, renewal, metrics, app.instance)
        store = store_of(settings, patient=patient)
        submissions, registry = Submissions(store), WorkerRegistry(client)
        return cls(
            settings,
            patient,
            app,
            stop,
            pulse,
            store,
            submissions,
            ledger,
            Ledger(hasty, settings.history_seconds),
            PipelineLogs(hasty, settings.history_seconds),
            leases,
            Attempts(client, hasty, settings.max_attempts, settings.history_seconds, app.instance),
            registry,
            GpuPreference(client, registry),
            Rescue(client, ledger, leases, submissions, settings),
            Pages(hasty, settings.history_seconds),
            keyring(settings),
            Refusals(hasty),
            hasty,
            Queues(hasty),
            metrics,
        )

    def close(self, pipeline: str) -> None:
        """Forget how to send a pipeline again: it is finished."""
        self.submissions.remove(pipeline)
        self.ledger.close(pipeline)

    def wake(self, key: str) -> None:
        """Put the tasks that wait for a key into their queues again, to find its result or to take it over."""
        self.leases.unpark(key, self.send)

    def kept(self, message: Signature) -> str:
        """A task as it is kept until it is sent: sealed, since who can write to the broker could change it there."""
        return self.keyring.seal("kept", dumps(message))

    def send(self, kept: str) -> None:
        """Send a task or a canvas that was kept; refuse one that is not sealed with a key, or is no message.

        Raises:
            UnreadableRecord: its queue at the broker is something else.

        """
        try:
            message = self.app.signature(loads(self.keyring.open("kept", kept)))
            message.apply_async(retry=self.patient)
        except Untrusted as error:
            self._refuse_kept(kept, str(error))
        except OperationalError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise UnreadableRecord("its queue at the broker is of another type: 'distill doctor' says which") from error
        except (*UNREADABLE, AttributeError) as error:
            self._refuse_kept(kept, f"it cannot be read: {type(error).__name__}: {error}"[:LONGEST_TEXT])

    def _refuse_kept(self, kept: str, reason: str) -> None:
        self.refuse(Refusal(time=time.time(), worker=node(), reason=reason, body=kept[:LONGEST_TEXT]))

    def refuse(self, refusal: Refusal) -> None:
        """Say once that a message was refused, and keep and count it."""
        # Quoted: its sender may have put line breaks into it, to write lines of a log.
        logger.error("refused %r from %r: %s", refusal.task or "a message", refusal.queue, refusal.reason)
        try:
            self.refusals.enter(refusal)
        except (redis.RedisError, UnreadableRecord) as error:
            logger.warning("the refused message is not kept: %s", error)
