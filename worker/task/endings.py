"""Endings: what becomes of a task whose stages do not all have a result, by the error that ended its work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Ignore, Reject
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError

from distill_queue.shared.errors import (
    Cancelled,
    DistillError,
    HandedBack,
    LeaseLost,
    StageFailed,
    StoreUnavailable,
    Unavailable,
    UnknownPipeline,
    UnreadableRecord,
)
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.plan.stage import STAGE_FORMAT, Bundle
from distill_queue.shared.settings import Settings
from distill_queue.worker.task.attempt import AttemptFailed, error_in_words, out_of_time
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.task.run import Parked
from distill_queue.worker.telemetry.metrics import Metrics, kind_of

#: Seconds after which a stage that only a newer worker can do is offered again, and the longest wait of a retry.
NEWER_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0

logger = get_task_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endings:
    """How one task ends without a result: each method returns what the task has to raise."""

    received: ReceivedTask
    settings: Settings
    ledger: Ledger
    logs: PipelineLogs
    metrics: Metrics
    #: Forgets how to send a pipeline again, once it is finished.
    close: Callable[[str], None]
    #: When the store or a download first failed, in seconds since the epoch; 0 where none did.
    trouble_since: float
    #: When the task began, in seconds since the epoch.
    _began: float = field(default_factory=time.time)

    def of_stages(self, error: Exception, unfinished: Bundle) -> Exception:
        """What the task raises after an error of `STAGE_ENDINGS` has ended the work on its stages."""
        ending = next(ending for kind, ending in STAGE_ENDINGS.items() if isinstance(error, kind))
        return ending(self, error, unfinished)

    def of_task(self, error: Exception) -> Exception:
        """What the task raises after an error of `TASK_ENDINGS`."""
        ending = next(ending for kind, ending in TASK_ENDINGS.items() if isinstance(error, kind))
        return ending(self, error)

    # Of stages: what has an artifact by now is in the ledger, and only the rest is spoken of.

    def parked(self, error: Exception, _unfinished: Bundle) -> Exception:
        """Another task computes a stage; it wakes this one at its end."""
        return self._without_result("task-retried", exception=str(error))

    def cancelled(self, _error: Exception, unfinished: Bundle) -> Exception:
        """The pipeline was cancelled while a stage ran."""
        self._count(unfinished, "cancelled")
        return self.revoked()

    def lease_lost(self, error: Exception, _unfinished: Bundle) -> Exception:
        """Another worker took over."""
        # Not acknowledged: its delivery tag is also that of the delivery which took over.
        return Reject(str(error), requeue=True)

    def handed_back(self, _error: Exception, unfinished: Bundle) -> Exception:
        """The worker ends; another one goes on."""
        self.received.message().apply_async()
        self._count(unfinished, "handed_back")
        handed_back = f"handed back by {self.received.worker}"
        self.ledger.wait(self.received.pipeline, [stage.key for stage in unfinished], handed_back)
        return self._without_result("task-retried", exception=handed_back)

    def unavailable(self, error: Exception, unfinished: Bundle) -> Exception:
        """The store or a download does not work: the task is tried again, but not for ever."""
        # Trouble that comes after a long time of work is new.
        worked_long = time.time() - self._began >= LONGEST_WAIT_SECONDS
        since = (0.0 if worked_long else self.trouble_since) or time.time()
        keys = [stage.key for stage in unfinished]
        if time.time() - since < self.settings.retry_seconds:
            return self._try_again(error, keys, since)
        reason = f"{error} (tried again for {time.time() - since:,.0f} s)"
        return self.failed(dict.fromkeys(keys, StageFailed(reason)))

    def attempt_failed(self, error: Exception, unfinished: Bundle) -> Exception:
        """A bug ended the attempt, and another one is left."""
        return self._try_again(error, [stage.key for stage in unfinished], self.trouble_since)

    # Of the task: before its stages are begun, or where the broker itself is in the way.

    def revoked(self) -> Exception:
        """The pipeline was cancelled."""
        return self._without_result("task-revoked", terminated=False)

    def too_new(self, newest: int) -> Exception:
        """A newer version has sent it, in a format of stages that this one does not know."""
        reason = f"stage format {newest}: this worker knows {STAGE_FORMAT}: update it"
        logger.error("%s: left to newer workers", reason)
        self.ledger.wait(self.received.pipeline, [stage["key"] for stage in self.received.stages], reason)
        self.received.tell_progress(reason)
        return self.received.retry(jittered(NEWER_SECONDS))

    def over_time(self, _error: Exception) -> Exception:
        """The time limit passed outside of an attempt."""
        with self.received.capture(self.logs):
            return self.failed(out_of_time(self.received))

    def unreadable(self, error: Exception) -> Exception:
        """A record at the broker cannot be read: another try would not help."""
        return self._failed_at_last(str(error))

    def bug(self, error: Exception) -> Exception:
        """A bug outside of an attempt: without a word of it, the pipeline would wait for ever."""
        logger.error("%s: %s: a bug", self.received.pipeline, self.received.name, exc_info=error)
        reason = error_in_words(error)
        if self.received.retries + 1 < self.settings.max_attempts:  # What it lacked, as memory, may be there by then.
            return self._try_again(AttemptFailed(reason), self.received.keys, self.trouble_since)
        return self._failed_at_last(reason)

    def failed(self, failures: Mapping[str, DistillError] | DistillError) -> Exception:
        """Enter failures by key, or one of all stages, into the ledger; return the first, for Celery."""
        pipeline, raised = self.received.pipeline, []
        for stage in self.received.stages:
            failure = failures if isinstance(failures, DistillError) else failures.get(stage.get("key", ""))
            if failure is None:
                continue
            error = _titled(str(stage.get("title")), str(failure))
            self.ledger.fail(pipeline, str(stage.get("key")), error, self.received.worker)
            self.metrics.note("stages", kind_of(stage), "failed")
            logger.error("%s: %s", pipeline, error)
            raised.append(type(failure)(error))
        # Forgotten, or of another version; what stays in a store that cannot be written is removed by the rescue.
        with suppress(UnknownPipeline, UnreadableRecord, StoreUnavailable):
            if self.ledger.status(pipeline).finished:
                self.close(pipeline)
        return raised[0]

    def _failed_at_last(self, reason: str) -> Exception:
        """Fail all stages, though the pipeline itself may be what cannot be read."""
        failure = StageFailed(reason)
        try:
            return self.failed(failure)
        except UnreadableRecord as error:
            logger.error("%s: its stages are left undone: %s", self.received.pipeline, error)
            return failure

    def _try_again(self, error: Exception, keys: list[str], trouble_since: float) -> Exception:
        """Put the task into its queue again, for a time that grows with each try."""
        pipeline, name = self.received.pipeline, self.received.name
        countdown = jittered(min(LONGEST_WAIT_SECONDS, 2.0 ** min(self.received.retries + 1, 10)))
        self.ledger.wait(pipeline, keys, f"tries again in {countdown:.0f} s: {error}")
        logger.warning("%s: %s: tries again in %.0f s: %s", pipeline, name, countdown, error)
        return self.received.retry(countdown, trouble_since=trouble_since)

    def _without_result(self, event: str, **facts: object) -> Exception:
        """Have Celery forget the task, and tell Flower how it ended."""
        self.received.tell_end(event, **facts)
        return Ignore()

    def _count(self, stages: Bundle, outcome: str) -> None:
        for stage in stages:
            self.metrics.note("stages", stage.kind, outcome)


#: By the error that ended the work on a task's stages.
STAGE_ENDINGS: dict[type[Exception], Callable[[Endings, Exception, Bundle], Exception]] = {
    Parked: Endings.parked,
    Cancelled: Endings.cancelled,
    LeaseLost: Endings.lease_lost,
    HandedBack: Endings.handed_back,
    Unavailable: Endings.unavailable,
    AttemptFailed: Endings.attempt_failed,
}

#: By the error that ended a task before its stages were begun, after them, or in between.
TASK_ENDINGS: dict[type[Exception], Callable[[Endings, Exception], Exception]] = {
    UnreadableRecord: Endings.unreadable,
    SoftTimeLimitExceeded: Endings.over_time,
}

#: What the broker is to blame for: it is away for very long, or refuses what a stage needs of it.
BROKER_ERRORS = (redis.RedisError, Unavailable, OperationalError)


def left_for_later(received: ReceivedTask, error: Exception) -> Exception:
    """Wait for a moment, then put the task back for any worker: what a task raises after one of `BROKER_ERRORS`."""
    logger.error("%s: %s: left for later: %s", received.pipeline, received.name, error)
    time.sleep(jittered(NEWER_SECONDS))
    return Reject(str(error), requeue=True)


def jittered(seconds: float) -> float:
    """A time that differs from task to task, so that they do not all begin again at once."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)


def _titled(title: str, reason: str) -> str:
    """A reason behind its stage's title, with no name in it twice: a data set's own title ends with its name."""
    named, _, rest = reason.partition(": ")
    if reason.startswith(f"{title}: "):
        return reason
    return f"{title}: {rest}" if title.endswith(f" {named}") else f"{title}: {reason}"
