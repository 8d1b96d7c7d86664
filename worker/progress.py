"""Progress: tells Flower and the ledger how far a stage is, and stops it when it should not go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from celery import Task
from celery.utils.log import get_task_logger

from shared.errors import Cancelled, HandedBack, Unavailable
from shared.plan import Stage
from worker.bench import Bench
from worker.lease import Lease

#: Seconds between two reports, and between two tries while the broker is away.
REPORT_SECONDS = 0.5
AWAY_SECONDS = 5.0

logger = get_task_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Called at every step of a stage; reports a few times a second."""

    task: Task
    bench: Bench
    lease: Lease
    pipeline: str
    stage: Stage
    _next: float = field(default=0.0)

    def __call__(self, progress: str) -> None:
        """Report.

        Raises:
            StageStopped: the worker is told to end, the lease is lost, or the pipeline was cancelled.

        """
        if self.bench.stop.asked:
            raise HandedBack(progress)
        if time.monotonic() < self._next:
            return
        self.lease.check()
        self._next = time.monotonic() + (REPORT_SECONDS if self._tell(progress) else AWAY_SECONDS)

    def _tell(self, progress: str) -> bool:
        """Whether the broker could be told; while it is away, the stage goes on."""
        try:
            self.bench.notes.note(self.pipeline, self.stage.key, progress, self.task.request.hostname)
            if self.bench.notes.is_cancelled(self.pipeline):
                raise Cancelled(self.pipeline)
            self.task.send_event("task-progress", result=progress, retry=False)
        except (Unavailable, OSError, *self.task.app.connection_for_write().connection_errors) as error:
            logger.warning("progress could not be told: %s", error)
            return False
        return True
