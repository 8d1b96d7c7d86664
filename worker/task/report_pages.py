"""Report pages: written by workers that have nothing else to do, once a pipeline is finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from distill_queue.shared.errors import StoreUnavailable, UnreadableRecord
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.coordination.pages import Pages

logger = get_task_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReportPages:
    """The pages that are owed to finished pipelines.

    To draw a page takes as long as many small stages, and no stage needs it. The worker that ends the next pipeline
    writes the pages that are left. A page that is still missing, as after its worker died, 'distill report' and
    'distill run' write.
    """

    pages: Pages
    ledger: Ledger
    store: ArtifactStore

    def write(self, pipeline: str | None, is_needed_elsewhere: Callable[[], bool]) -> None:
        """Write a pipeline's page, if one is given, and those that are still owed, until the worker is needed."""
        try:
            if pipeline:
                self.pages.owe(pipeline)
            while not is_needed_elsewhere() and (owed := self.pages.take()):
                try:
                    self._write(owed)
                except StoreUnavailable as error:
                    logger.warning("%s: its report cannot be written for now: %s", owed, error)
                    self.pages.owe(owed)
                    return
        except SoftTimeLimitExceeded:
            logger.warning("%s: pages of reports are left for later: the task has reached its time limit", pipeline)
        except (redis.RedisError, UnreadableRecord) as error:
            logger.warning("%s: pages of reports are left for later: %s", pipeline, error)

    def _write(self, pipeline: str) -> None:
        """Write a page; a pipeline whose page cannot be drawn is done without it.

        Raises:
            StoreUnavailable: it cannot be written for now.

        """
        try:
            from distill_queue.shared.report.page import write_page  # Loads matplotlib, which no other task needs.

            write_page(self.ledger.status(pipeline), self.store, self.store.report(pipeline))
            self.store.share_report(pipeline)
        except (SoftTimeLimitExceeded, StoreUnavailable):
            raise
        except Exception:
            logger.warning("%s: its report cannot be written", pipeline, exc_info=True)
