"""Attempt: one try to compute stages that the store lacks, within the number of tries that they have."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from distill_queue.shared.errors import (
    DistillError,
    InvalidInput,
    OverTime,
    StageFailed,
    StageStopped,
    Unavailable,
    UnreadableRecord,
)
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import StageState, State
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.plan.stage import Bundle, Stage, bundle_ref
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.shared.text import said
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.leases import Lease
from distill_queue.worker.machine.outages import can_pass
from distill_queue.worker.stages.crew import Crew
from distill_queue.worker.task.finished import EnterFinished
from distill_queue.worker.task.progress import Progress
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.task.runners import Runners
from distill_queue.worker.telemetry.metrics import Metrics

#: Characters of what a bug says that are kept of each attempt.
LONGEST_REASON = 2_000

logger = get_task_logger(__name__)


class AttemptFailed(DistillError):
    """A bug ended the attempt, and another one is left."""


@dataclass(frozen=True, slots=True)
class StageAttempts:
    """Computes the stages of one task."""

    received: ReceivedTask
    store: ArtifactStore
    ledger: Ledger
    attempts: Attempts
    metrics: Metrics
    runners: Runners
    #: Makes what reports the progress of stages, whose leases it checks.
    progress_of: Callable[[list[Lease], Bundle], Progress]
    #: Who may help with a stage.
    crew_of: Callable[[Stage], Crew]

    def compute(
        self, bundle: Bundle, part: Bundle, leases: list[Lease], enter: EnterFinished
    ) -> dict[str, DistillError]:
        """Compute a part of the task's bundle once; of those that failed for good, why, by key.

        Raises:
            AttemptFailed: a bug ended the attempt.
            StageStopped: they are to be left.
            Unavailable: the store or a download does not work for now.

        """
        keys, pipeline, worker = [stage.key for stage in part], self.received.pipeline, self.received.worker
        try:
            number = self.attempts.begin(keys, worker)
            for stage in part:
                self.metrics.note("attempts", stage.kind)
            running = StageState(state=State.RUNNING, worker=worker, began=time.time())
            self.ledger.note(pipeline, keys, running)
            with self.progress_of(leases, part) as progress:
                failures = self._run(bundle, part, leases, progress, enter, number)
        except (StageStopped, Unavailable) as error:
            logger.info("%s: %s: left: %s", pipeline, part[0].title, error)
            self.attempts.withdraw(keys, worker)
            raise
        except SoftTimeLimitExceeded:
            failures = dict.fromkeys(keys, out_of_time(self.received))
        except (InvalidInput, StageFailed, UnreadableRecord) as error:
            failures = dict.fromkeys(keys, error)
        except Exception as error:
            failures = self._after_bug(part, error)
        self.attempts.forget(keys)
        # Another pipeline may have more time for it, and records that can be read.
        given_up = [key for key, failure in failures.items() if not isinstance(failure, OverTime | UnreadableRecord)]
        for key in given_up:
            self.ledger.give_up(key, str(failures[key]))
        if len(given_up) == len(keys):
            self.store.forget_partial(bundle_ref(bundle))
        return failures

    def _after_bug(self, part: Bundle, error: Exception) -> dict[str, DistillError]:
        """Why stages failed, if the attempt was their last one.

        Raises:
            AttemptFailed: another one is left.
            Unavailable: it was the disk or the network, though a library raised an error of its own.

        """
        keys, pipeline, worker = [stage.key for stage in part], self.received.pipeline, self.received.worker
        if can_pass(error):
            self.attempts.withdraw(keys, worker)
            raise Unavailable(error_in_words(error)) from error
        logger.error("%s: %s: a bug", pipeline, part[0].title, exc_info=error)
        self.metrics.note("attempts_lost", part[0].kind, "error")
        reason = error_in_words(error)
        try:
            self.attempts.end(keys, worker, reason)
        except StageFailed as last:
            return dict.fromkeys(keys, last)
        raise AttemptFailed(reason) from error

    def _run(
        self,
        bundle: Bundle,
        part: Bundle,
        leases: list[Lease],
        progress: Progress,
        enter: EnterFinished,
        number: int,
    ) -> dict[str, DistillError]:
        """Run stages to their end; of trainings that failed while others of their bundle did not, why, by key."""

        def confirm() -> None:
            for lease in leases:
                lease.confirm()

        keys, pipeline, worker = [stage.key for stage in part], self.received.pipeline, self.received.worker
        progress.device, runner = self.runners.make(
            self.received.queue,
            progress,
            confirm=confirm,
            saved=lambda: self.attempts.got_further(keys, worker),
            crew=self.crew_of(part[0]),
            shards=self.received.task.request.kwargs.get("shards", "auto"),
        )
        logger.info("%s: %s: begins on %s, attempt %d", pipeline, part[0].title, progress.device, number)
        if not isinstance(part[0].recipe, Training):
            enter(part[0], runner.run(part[0]), "computed", 1)
            self.store.forget_partial(part[0].ref)
            return {}
        failures: dict[str, DistillError] = {}
        outcomes = runner.train(bundle, part)
        for sharing, stage in zip(range(len(part), 0, -1), part, strict=True):
            outcome = outcomes[stage.key]
            if isinstance(outcome, StageFailed):
                failures[stage.key] = outcome
            else:
                enter(stage, outcome, "computed", sharing)
        self.store.forget_partial(bundle_ref(bundle))
        return failures


def out_of_time(received: ReceivedTask) -> OverTime:
    """The error of a task that ran into its soft limit."""
    return OverTime(over_time(received.soft_limit_seconds or 0.0))


def over_time(limit_seconds: float) -> str:
    """What to say of a stage that took too long."""
    return f"took longer than its time limit of {limit_seconds:g} s: raise it under 'time_limits' in the spec"


def error_in_words(error: Exception) -> str:
    """The error and the place in the code that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
    return f"{type(error).__name__}: {said(error, LONGEST_REASON)} ({place})"
