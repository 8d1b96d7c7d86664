"""Work: one task's way from a stage to its artifact, under a lease, within the attempts that it has."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.canvas import Signature
from celery.utils.log import get_task_logger

from distill_queue.shared.errors import (
    DistillError,
    InvalidInput,
    OverTime,
    StageFailed,
    StageStopped,
    Unavailable,
    UnknownPipeline,
    UnreadableRecord,
    Untrusted,
)
from distill_queue.shared.ledger.status import StageState, State
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage, bundle_ref
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.text import said
from distill_queue.worker.coordination.connections import Connections
from distill_queue.worker.coordination.leases import Lease
from distill_queue.worker.machine.outages import can_pass
from distill_queue.worker.task.label_crew import SharedCrew
from distill_queue.worker.task.progress import Progress
from distill_queue.worker.telemetry.log_capture import LogCapture

#: Characters of what a bug says that are kept of each attempt.
LONGEST_REASON = 2_000

logger = get_task_logger(__name__)


class Parked(DistillError):
    """Another task works on the key; this one's message waits for it."""


class Stumbled(DistillError):
    """A bug ended the attempt, and another one is left."""


Outcome = Literal["found", "computed"]
#: Told of each stage as soon as it has its artifact, and how many of those that were done at the same time, itself
#: among them, it was not told of yet.
Enter = Callable[[Stage, Artifact, Outcome, int], None]


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a task does for a pipeline."""

    task: Task
    connections: Connections
    pipeline: str
    worker: str
    capture: LogCapture

    def find_or_compute(self, bundle: Bundle, enter: Enter) -> dict[str, DistillError]:
        """Each stage's artifact, from the store or made now; of those that failed for good, why, by key.

        Raises:
            Parked: another task works on one of them.
            Stumbled: a bug ended the attempt.
            StageStopped: they are to be left.
            Unavailable: the store or a download does not work for now.

        """
        missing = self._enter_found(bundle, enter)
        if not missing and len(bundle) > 1:
            self.connections.store.forget_partial(bundle_ref(bundle))
        failures = self._make_inputs_again(missing)
        missing = tuple(stage for stage in missing if stage.key not in failures)
        if not missing:
            return failures
        # Imports torch, before there is a lease to renew: loading its libraries stops all threads for seconds.
        with self.connections.pulse.loading():
            import_module("distill_queue.worker.stages.runner")
        with self._leases(missing) as leases:
            missing = self._enter_found(missing, enter)
            for stage in missing:
                if failure := self.connections.ledger.failure(stage.key):
                    failures[stage.key] = StageFailed(failure)
            missing = tuple(stage for stage in missing if stage.key not in failures)
            for part in _parts(missing):
                with self.capture.about(stage.key for stage in part):
                    failures |= self._attempt(bundle, part, leases, enter)
        return failures

    def message(self) -> Signature:
        """The task, to be put into its queue again; whatever troubled it before is over."""
        request = self.task.request
        kwargs = request.kwargs | {"trouble_since": 0.0}
        return self.task.signature_from_request(kwargs=kwargs, kwargsrepr=request.kwargsrepr)

    def _enter_found(self, bundle: Bundle, enter: Enter) -> Bundle:
        """Enter what the store has, and return the rest."""
        missing = []
        for stage in bundle:
            if found := self.connections.store.find(stage.ref):
                self.connections.store.forget_partial(stage.ref)
                enter(stage, found, "found", 1)
            else:
                missing.append(stage)
        return tuple(missing)

    def _make_inputs_again(self, bundle: Bundle) -> dict[str, DistillError]:
        """Compute inputs that were there and are not any more; of the stages that cannot have theirs, why, by key."""
        failures: dict[str, DistillError] = {}
        for stage in bundle:
            for ref in stage.inputs.values():
                if self.connections.store.obtain(ref) is None and (error := self._make_again(ref)):
                    failures[stage.key] = error
        return failures

    def _make_again(self, ref: ArtifactRef) -> DistillError | None:
        """Compute an artifact whose own task has long ended; None if that went well."""
        try:
            plan = self.connections.ledger.plan(self.pipeline, self.connections.keyring)
            stages = {stage.key: stage for stage in plan.stages}
        except (UnknownPipeline, UnreadableRecord):  # Forgotten, or written by another version.
            stages = {}
        except Untrusted as error:
            return StageFailed(f"the store has lost {ref.kind}/{ref.short_key}, and the pipeline's plan: {error}")
        if ref.key not in stages:
            return StageFailed(f"the store has lost {ref.kind}/{ref.short_key}: submit the pipeline again")
        logger.warning("%s: %s is made again: its artifact is gone or damaged", self.pipeline, stages[ref.key].title)
        return self.find_or_compute((stages[ref.key],), lambda *_: None).get(ref.key)

    @contextmanager
    def _leases(self, bundle: Bundle) -> Iterator[list[Lease]]:
        """Hold the keys of all stages, and wake whoever waits for them at the end.

        Keys are taken in one order by everybody, and none is held while waiting for another.
        """
        with ExitStack() as held:
            yield [held.enter_context(self._lease(stage)) for stage in sorted(bundle, key=lambda stage: stage.key)]

    @contextmanager
    def _lease(self, stage: Stage) -> Iterator[Lease]:
        leases = self.connections.leases
        lease = leases.acquire(stage.key, self.worker, self.task.request.id, self.connections.kept(self.message()))
        if lease is None:
            reason = f"waits: another pipeline computes {stage.title}"
            self.connections.ledger.wait(self.pipeline, [stage.key], reason)
            self.capture.note(reason)
            raise Parked(reason)
        try:
            with leases.kept(lease):
                yield lease
        finally:
            if not lease.lost:  # Whoever took over wakes them.
                with suppress(UnreadableRecord):  # Of what another one waits in; the housekeeping says so.
                    self.connections.wake(stage.key)

    def _attempt(self, bundle: Bundle, part: Bundle, leases: list[Lease], enter: Enter) -> dict[str, DistillError]:
        """Do stages together that the store lacks, once; of those that failed for good, why, by key."""
        attempts, keys = self.connections.attempts, [stage.key for stage in part]
        try:
            number = attempts.begin(keys, self.worker)
            for stage in part:
                self.connections.metrics.note("attempts", stage.kind)
            running = StageState(state=State.RUNNING, worker=self.worker, began=time.time())
            self.connections.ledger.note(self.pipeline, keys, running)
            with Progress(self.task, self.connections, leases, self.pipeline, part) as progress:
                failures = self._run(bundle, part, leases, progress, enter, number)
        except (StageStopped, Unavailable) as error:
            logger.info("%s: %s: left: %s", self.pipeline, part[0].title, error)
            attempts.withdraw(keys, self.worker)
            raise
        except SoftTimeLimitExceeded:
            failures = dict.fromkeys(keys, out_of_time(self.task))
        except (InvalidInput, StageFailed, UnreadableRecord) as error:
            failures = dict.fromkeys(keys, error)
        except Exception as error:
            if can_pass(error):  # Of the disk or the network, whatever made an error of its own of it.
                attempts.withdraw(keys, self.worker)
                raise Unavailable(error_in_words(error)) from error
            logger.exception("%s: %s: a bug", self.pipeline, part[0].title)
            self.connections.metrics.note("attempts_lost", part[0].kind, "error")
            reason = error_in_words(error)
            try:
                attempts.end(keys, self.worker, reason)
            except StageFailed as last:
                failures = dict.fromkeys(keys, last)
            else:
                raise Stumbled(reason) from error
        attempts.forget(keys)
        # Another pipeline may have more time for it, and records that can be read.
        given_up = [key for key, failure in failures.items() if not isinstance(failure, OverTime | UnreadableRecord)]
        for key in given_up:
            self.connections.ledger.give_up(key, str(failures[key]))
        if len(given_up) == len(keys):
            self.connections.store.forget_partial(bundle_ref(bundle))
        return failures

    def _run(
        self, bundle: Bundle, part: Bundle, leases: list[Lease], progress: Progress, enter: Enter, number: int
    ) -> dict[str, DistillError]:
        from distill_queue.worker.machine.runtime import Runtime
        from distill_queue.worker.stages.runner import StageRunner

        def confirm() -> None:
            for lease in leases:
                lease.confirm()

        settings, store = self.connections.settings, self.connections.store
        with self.connections.pulse.loading():  # The start of CUDA loads libraries too.
            runtime = Runtime.probe(settings, self.task.request.delivery_info["routing_key"])
            progress.device = runtime.device_name
        logger.info("%s: %s: begins on %s, attempt %d", self.pipeline, part[0].title, runtime.device_name, number)
        keys = [stage.key for stage in part]
        runner = StageRunner(
            store,
            runtime,
            progress,
            confirm,
            saved=lambda: self.connections.attempts.got_further(keys, self.worker),
            checkpoint_seconds=settings.checkpoint_seconds,
            crew=SharedCrew(self.task, self.connections, self.pipeline, part[0]),
            shards=self.task.request.kwargs.get("shards", "auto"),
            teacher_on_test=self.connections.teacher_on_test,
        )
        if not isinstance(part[0].recipe, Training):
            enter(part[0], runner.run(part[0]), "computed", 1)
            store.forget_partial(part[0].ref)
            return {}
        failures: dict[str, DistillError] = {}
        outcomes = runner.train(bundle, part)
        for untold, stage in zip(range(len(part), 0, -1), part, strict=True):
            outcome = outcomes[stage.key]
            if isinstance(outcome, StageFailed):
                failures[stage.key] = outcome
            else:
                enter(stage, outcome, "computed", untold)
        store.forget_partial(bundle_ref(bundle))
        return failures


def _parts(bundle: Bundle) -> Iterator[Bundle]:
    """What is done in one go: all trainings, else stage after stage."""
    if bundle and isinstance(bundle[0].recipe, Training):
        yield bundle
    else:
        yield from ((stage,) for stage in bundle)


def out_of_time(task: Task) -> OverTime:
    """The error of a task that ran into its soft limit, the message's own or the worker's."""
    return OverTime(over_time(task.request.timelimit[1] or task.soft_time_limit or 0.0))


def over_time(limit_seconds: float) -> str:
    """What to say of a stage that took too long."""
    return f"took longer than its time limit of {limit_seconds:g} s: raise it under 'time_limits' in the spec"


def error_in_words(error: Exception) -> str:
    """The error and the place in the code that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}, in {last.name}"
    return f"{type(error).__name__}: {said(error, LONGEST_REASON)} ({place})"
