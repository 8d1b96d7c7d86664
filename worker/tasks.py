"""The Celery tasks: thin skins that parse a stage, lease it, run it and enter its record."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger
from pydantic import ValidationError

from shared.errors import InvalidInput, LeaseLost, StageFailed, Unavailable
from shared.ledger import Ledger, connect
from shared.plan import KINDS, STAGE_FORMAT, Stage
from shared.records import StageRecord
from shared.settings import Settings
from shared.store import Artifact, ArtifactStore
from worker.lease import Lease, Leases

#: Seconds between two reports of a stage's progress.
REPORT_SECONDS = 0.5

logger = get_task_logger(__name__)


def register(app: Celery, settings: Settings) -> None:
    """Give the application one task a kind of stage, named `distill.<kind>`."""
    bench = cache(lambda: Bench.connect(settings))  # Not before the first task: pool processes are forked.

    def run(task: Task, *, pipeline: str, stage: dict[str, Any]) -> str:
        return run_stage(task, bench(), pipeline, stage)

    for kind in KINDS:
        app.task(
            run, name=f"distill.{kind}", shared=False, bind=True, max_retries=None, throws=(InvalidInput, StageFailed)
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """The connections of one worker process."""

    settings: Settings
    store: ArtifactStore
    ledger: Ledger
    leases: Leases

    @classmethod
    def connect(cls, settings: Settings) -> Bench:
        """Connect to the broker and the store.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        client = connect(settings)
        return cls(
            settings,
            ArtifactStore(settings.store),
            Ledger(client, settings.history_seconds),
            Leases(client, settings.visibility_timeout_seconds),
        )


def run_stage(task: Task, bench: Bench, pipeline: str, message: dict[str, Any]) -> str:
    """Find a stage's result or compute it, and enter its record into the pipeline's ledger.

    Raises:
        InvalidInput: the stage cannot be done as it is written.
        StageFailed: it has no result after all attempts, or never can have one.

    """
    stage = _parse(message)
    started = time.monotonic()
    worker = task.request.hostname
    try:
        found = bench.store.find(stage.ref)
        artifact = found or _compute(task, bench, pipeline, stage)
    except (Ignore, LeaseLost) as reason:
        raise Ignore from reason
    except Unavailable as error:
        if bench.ledger.attempts(pipeline, stage.key) >= bench.settings.max_attempts:
            raise _failed(bench, pipeline, stage, worker, str(error)) from error
        bench.ledger.wait(pipeline, stage.key, f"tries again: {error}")
        raise task.retry(exc=error, countdown=2 ** (task.request.retries + 1)) from error
    except (InvalidInput, StageFailed) as error:
        raise _failed(bench, pipeline, stage, worker, str(error), type(error)) from error
    except Exception as error:
        _failed(bench, pipeline, stage, worker, f"{type(error).__name__}: {error}")
        raise
    record = StageRecord(
        key=stage.key,
        kind=stage.kind,
        title=stage.title,
        outcome="found" if found else "computed",
        seconds=time.monotonic() - started,
        worker=worker,
        record=artifact.record,
    )
    return bench.ledger.finish(pipeline, record).summary


def _parse(message: dict[str, Any]) -> Stage:
    if message.get("format", 0) > STAGE_FORMAT:
        raise InvalidInput(f"stage format {message['format']}: this worker knows {STAGE_FORMAT}: update it")
    try:
        return Stage.model_validate(message)
    except ValidationError as error:
        # It would cross Redis empty: pydantic's errors do not survive pickling by message.
        raise InvalidInput(f"not a stage: {error}") from None


def _compute(task: Task, bench: Bench, pipeline: str, stage: Stage) -> Artifact:
    """Lease a stage's key and run it; park the task where another worker has the lease."""
    again = task.signature_from_request(kwargsrepr=task.request.kwargsrepr)
    lease = bench.leases.acquire(stage.key, task.request.id, json.dumps(again))
    if lease is None:
        bench.ledger.wait(pipeline, stage.key, "another pipeline computes the same stage")
        task.send_event("task-progress", result="waits: another pipeline computes the same stage")
        raise Ignore
    worker = task.request.hostname
    attempts = bench.ledger.start(pipeline, stage.key, worker)
    try:
        with bench.leases.kept(lease):
            if attempts > bench.settings.max_attempts:
                raise StageFailed(f"given up: {attempts - 1} workers died on it, the last one before {worker}")
            if found := bench.store.find(stage.ref):
                return found
            from worker import stages  # Imports torch: not before something must be computed.
            from worker.runtime import Runtime

            runtime = Runtime.probe(bench.settings, task.request.delivery_info["routing_key"])
            report = _Report(task, bench.ledger, lease, pipeline, stage)
            return stages.run(stage, bench.store, runtime, report)
    finally:
        wake(task.app, bench.leases, stage.key)


def wake(app: Celery, leases: Leases, key: str) -> None:
    """Put the tasks that wait for a key into their queues again."""
    for message in leases.parked(key):
        app.signature(json.loads(message)).apply_async()
        leases.unpark(key, message)


def _failed(
    bench: Bench, pipeline: str, stage: Stage, worker: str, reason: str, kind: type[Exception] = StageFailed
) -> Exception:
    message = f"{stage.title}: {reason}"
    bench.ledger.fail(pipeline, stage.key, message, worker)
    logger.error("%s: %s", pipeline, message)
    return kind(message)


@dataclass(slots=True)
class _Report:
    """Tells Flower and the ledger how far a stage is, a few times a second; stops it when its lease is lost."""

    task: Task
    ledger: Ledger
    lease: Lease
    pipeline: str
    stage: Stage
    _last: float = field(default=-REPORT_SECONDS)

    def __call__(self, progress: str) -> None:
        self.lease.check()
        if time.monotonic() - self._last < REPORT_SECONDS:
            return
        self._last = time.monotonic()
        self.task.send_event("task-progress", result=progress)
        try:
            self.ledger.note(self.pipeline, self.stage.key, progress, self.task.request.hostname)
        except Unavailable as error:
            logger.warning("progress was not noted: %s", error)
