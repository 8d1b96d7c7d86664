"""Work: one task's way from a stage to its artifact, under a lease, within the attempts that it has."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.canvas import Signature
from celery.utils.log import get_task_logger

from shared.errors import DistillError, InvalidInput, StageFailed, StageStopped, Unavailable
from shared.plan import ArtifactRef, Stage
from shared.store import Artifact
from worker.bench import Bench
from worker.lease import Lease
from worker.progress import Progress

logger = get_task_logger(__name__)


class Parked(DistillError):
    """Another task works on the key; this one's message waits for it."""


class Stumbled(DistillError):
    """A bug ended the attempt, and another one is left."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a task does for a pipeline."""

    task: Task
    bench: Bench
    pipeline: str
    worker: str

    def find_or_compute(self, stage: Stage) -> tuple[Artifact, Literal["found", "computed"]]:
        """The stage's artifact, from the store or made now.

        Raises:
            Parked: another task works on it.
            Stumbled: a bug ended the attempt.
            StageStopped: it is to be left.
            StageFailed: it ended for good.
            InvalidInput: it asks for something that cannot be.
            Unavailable: the store or a download does not work for now.

        """
        if found := self.bench.store.find(stage.ref):
            return found, "found"
        for ref in stage.inputs.values():
            if self.bench.store.find(ref) is None:
                self._make_again(ref)
        # Imports torch, before there is a lease to renew: loading its libraries stops all threads for seconds.
        import_module("worker.stages")
        with self._lease(stage) as lease:
            if found := self.bench.store.find(stage.ref):
                return found, "found"
            if failure := self.bench.ledger.failure(stage.key):
                raise StageFailed(failure)
            artifact = self._attempt(stage, lease)
        self.bench.store.forget_partial(stage.ref)
        return artifact, "computed"

    def message(self) -> Signature:
        """The task, to be put into its queue again."""
        return self.task.signature_from_request(kwargsrepr=self.task.request.kwargsrepr)

    def _make_again(self, ref: ArtifactRef) -> None:
        """Compute an input that was there and is not any more: its own task has long ended."""
        plan = self.bench.ledger.plan(self.pipeline)
        stages = {stage.key: stage for stage in plan.stages} if plan else {}
        if ref.key not in stages:
            raise StageFailed(f"the store has lost {ref.kind}/{ref.short_key}: submit the pipeline again")
        logger.warning("%s: %s is made again: its artifact is gone or damaged", self.pipeline, stages[ref.key].title)
        self.find_or_compute(stages[ref.key])

    @contextmanager
    def _lease(self, stage: Stage) -> Iterator[Lease]:
        """Hold the stage's key, and wake whoever waits for it at the end; a failure for good is theirs too."""
        leases = self.bench.leases
        lease = leases.acquire(stage.key, self.worker, self.task.request.id, json.dumps(self.message()))
        if lease is None:
            reason = f"waits: another pipeline computes {stage.title}"
            self.bench.ledger.wait(self.pipeline, stage.key, reason)
            self.task.send_event("task-progress", result=reason, retry=False)
            raise Parked(reason)
        try:
            with leases.kept(lease):
                try:
                    yield lease
                except (InvalidInput, StageFailed) as error:
                    self.bench.ledger.give_up(stage.key, str(error))
                    raise
        finally:
            self.bench.wake(stage.key)

    def _attempt(self, stage: Stage, lease: Lease) -> Artifact:
        attempts = self.bench.attempts
        try:
            attempts.begin(stage.key, self.worker)
            self.bench.ledger.note(self.pipeline, stage.key, "", self.worker)
            artifact = self._run(stage, lease)
        except (StageStopped, Unavailable):
            attempts.withdraw(stage.key)
            raise
        except SoftTimeLimitExceeded:
            attempts.forget(stage.key)
            raise StageFailed(over_time(self.task.request.timelimit[1])) from None
        except (InvalidInput, StageFailed):
            attempts.forget(stage.key)
            raise
        except Exception as error:
            logger.exception("%s: %s", self.pipeline, stage.title)
            reason = _in_words(error)
            try:
                attempts.end(stage.key, self.worker, reason)
            except StageFailed:
                attempts.forget(stage.key)
                raise
            raise Stumbled(reason) from error
        attempts.forget(stage.key)
        return artifact

    def _run(self, stage: Stage, lease: Lease) -> Artifact:
        from worker import stages
        from worker.runtime import Runtime

        settings = self.bench.settings
        return stages.run(
            stage,
            self.bench.store,
            Runtime.probe(settings, self.task.request.delivery_info["routing_key"]),
            Progress(self.task, self.bench, lease, self.pipeline, stage),
            confirm=lease.confirm,
            checkpoint_seconds=settings.checkpoint_seconds,
        )


def over_time(limit_seconds: float) -> str:
    """What to say of a stage that took too long."""
    return f"took longer than its time limit of {limit_seconds:g} s: raise it under 'time_limits' in the spec"


def _in_words(error: Exception) -> str:
    """The error and the place in the code that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno}, in {last.name})"
