"""Progress: tells Flower and the ledger how far a stage is, and stops it when it should not go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from celery.utils.log import get_task_logger

from distill_queue.shared.errors import Cancelled, HandedBack, LeaseLost, Unavailable, UnreadableRecord
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import StageState, State, duration_in_words
from distill_queue.shared.plan.stage import Bundle
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.coordination.leases import Lease
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.telemetry.metrics import Metrics

#: Seconds between two reports, and between two tries while the broker is away.
REPORT_SECONDS = 0.5
AWAY_SECONDS = 5.0
#: Share of the time that a stage may spend on reports, where the broker is far or does not answer, and how many
#: seconds a report is put off for that at the most.
LARGEST_SHARE = 0.1
LONGEST_PAUSE_SECONDS = 30.0

logger = get_task_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Called at every step of a stage; reports a few times a second, and once more at the end of the block."""

    received: ReceivedTask
    leases: list[Lease]
    bundle: Bundle
    store: ArtifactStore
    #: The ledger, by a client that does not wait for a broker that is away.
    notes: Ledger
    metrics: Metrics
    stop: Stop
    #: On what it is done, in words, as soon as that is known.
    device: str = ""
    _began: float = field(default_factory=time.time)
    #: When a share of this piece of work was first reported, by the monotonic clock, that share, and the last one.
    _first: tuple[float, float] | None = None
    _last_share: float = 0.0
    _next: float = field(default=0.0)
    _next_look: float = field(default=0.0)
    #: Samples that were worked on since the last report.
    _samples: int = field(default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._count()

    def __call__(self, progress: str, samples: int = 0, share: float | None = None) -> None:
        """Report.

        Raises:
            StageStopped: the worker is told to end, the lease is lost, or the pipeline was cancelled.

        """
        self._samples += samples
        if self.stop.asked:
            raise HandedBack(f"{self.received.worker} ends; it was at {progress}")
        for lease in self.leases:
            lease.check()
        if (now := time.monotonic()) < self._next:
            return
        self._count()
        left = self._time_left(share) if share is not None else ""
        pause = REPORT_SECONDS if self._tell(progress, left, share) else AWAY_SECONDS
        took = time.monotonic() - now
        self._next = now + took + max(pause, min(took / LARGEST_SHARE, LONGEST_PAUSE_SECONDS))

    @property
    def _keys(self) -> list[str]:
        return [stage.key for stage in self.bundle]

    @property
    def _passing_errors(self) -> tuple[type[Exception], ...]:
        return (Unavailable, UnreadableRecord, *self.received.connection_errors)

    def _count(self) -> None:
        self.metrics.note("samples", self.bundle[0].kind, value=self._samples)
        self._samples = 0

    def _time_left(self, share: float) -> str:
        """How long the rest will take at the speed so far, in words; nothing before that can be told."""
        now = time.monotonic()
        if self._first is None or share < self._last_share:  # Another piece of work has begun.
            self._first = now, share
        self._last_share = share
        begun, first = self._first
        if now - begun < REPORT_SECONDS or share <= first:
            return ""
        return f"{duration_in_words((now - begun) * (1.0 - share) / (share - first))} left"

    def _require_unfinished(self) -> None:
        """End the stage where this worker was given up, and its successor is done; a bundle's first is done first."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self.store.seconds_between_looks
        for stage in self.bundle[:1] if self.store.seconds_between_looks else self.bundle:
            if stage.ref in self.store:
                raise LeaseLost(f"another worker has finished {stage.title}")

    def _tell(self, progress: str, left: str, share: float | None) -> bool:
        """Whether the broker could be told; while it or the store is away, the stage goes on."""
        try:
            self._require_unfinished()
            worker = self.received.worker
            words = " · ".join(filter(None, (progress, left)))
            state = StageState(state=State.RUNNING, progress=words, share=share, began=self._began, worker=worker)
            self.notes.note(self.received.pipeline, self._keys, state)
            if self.notes.is_cancelled(self.received.pipeline):
                raise Cancelled(f"the pipeline was cancelled; it was at {progress}")
            # Flower's column is narrow: what it cuts off is not how long it takes.
            words = " · ".join(filter(None, (left, progress, self.device)))
            self.received.tell_progress(words)
        except self._passing_errors as error:
            logger.warning("progress could not be told: %s", error)
            return False
        return True
