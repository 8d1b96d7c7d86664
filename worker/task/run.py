"""Task run: one task's way from its stages to their artifacts, found in the store or made under leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from celery.utils.log import get_task_logger

from distill_queue.shared.errors import DistillError, StageFailed, UnknownPipeline, UnreadableRecord, Untrusted
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage, bundle_ref
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.coordination.kept_messages import KeptMessages
from distill_queue.worker.coordination.leases import Lease, Leases
from distill_queue.worker.task.attempt import StageAttempts
from distill_queue.worker.task.finished import EnterFinished, Origin
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.telemetry.log_capture import LogCapture

logger = get_task_logger(__name__)


class Parked(DistillError):
    """Another task works on a stage; this one's message waits in the broker until that ends."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a task does for a pipeline."""

    received: ReceivedTask
    capture: LogCapture
    store: ArtifactStore
    ledger: Ledger
    leases: Leases
    kept_messages: KeptMessages
    attempts: StageAttempts
    #: Says why an artifact is not to be used for this pipeline, if it is not.
    refuse: Callable[[Stage, Artifact, Origin], DistillError | None]

    def find_or_compute(self, bundle: Bundle, enter: EnterFinished) -> dict[str, DistillError]:
        """Each stage's artifact, from the store or made now; of those that failed for good, why, by key.

        Raises:
            Parked: another task works on one of them.
            AttemptFailed: a bug ended the attempt.
            StageStopped: they are to be left.
            Unavailable: the store or a download does not work for now.

        """
        failures: dict[str, DistillError] = {}

        def enter_if_usable(stage: Stage, artifact: Artifact, origin: Origin, sharing: int) -> None:
            if reason := self.refuse(stage, artifact, origin):
                failures[stage.key] = reason
            else:
                enter(stage, artifact, origin, sharing)

        missing = self._enter_found(bundle, enter_if_usable)
        if not missing and len(bundle) > 1:
            self.store.forget_partial(bundle_ref(bundle))
        failures |= self._make_inputs_again(missing)
        missing = tuple(stage for stage in missing if stage.key not in failures)
        if not missing:
            return failures
        self.attempts.runners.load()
        with self._leases(missing) as leases:
            missing = self._enter_found(missing, enter_if_usable)
            for stage in missing:
                if failure := self.ledger.failure(stage.key):
                    failures[stage.key] = StageFailed(failure)
            missing = tuple(stage for stage in missing if stage.key not in failures)
            for part in _parts(missing):
                with self.capture.about(stage.key for stage in part):
                    failures |= self.attempts.compute(bundle, part, leases, enter_if_usable)
        return failures

    def _enter_found(self, bundle: Bundle, enter: EnterFinished) -> Bundle:
        """Enter what the store has; return the rest."""
        missing: list[Stage] = []
        for stage in bundle:
            if found := self.store.find(stage.ref):
                self.store.forget_partial(stage.ref)
                enter(stage, found, "found", 1)
            else:
                missing.append(stage)
        return tuple(missing)

    def _make_inputs_again(self, bundle: Bundle) -> dict[str, DistillError]:
        """Compute inputs that were there and are not any more; of the stages that cannot have theirs, why, by key."""
        failures: dict[str, DistillError] = {}
        for stage in bundle:
            for ref in stage.inputs.values():
                if self.store.obtain(ref) is None and (error := self._make_again(ref)):
                    failures[stage.key] = error
        return failures

    def _make_again(self, ref: ArtifactRef) -> DistillError | None:
        """Compute an artifact again whose own task ended long ago; return why that failed, or None."""
        try:
            plan = self.ledger.plan(self.received.pipeline, self.kept_messages.keyring)
            stages = {stage.key: stage for stage in plan.stages}
        except (UnknownPipeline, UnreadableRecord):  # Forgotten, or written by another version.
            stages = {}
        except Untrusted as error:
            return StageFailed(f"the store has lost {ref.kind}/{ref.short_key}, and the pipeline's plan: {error}")
        if ref.key not in stages:
            return StageFailed(f"the store has lost {ref.kind}/{ref.short_key}: submit the pipeline again")
        logger.warning(
            "%s: %s is made again: its artifact is gone or damaged", self.received.pipeline, stages[ref.key].title
        )
        return self.find_or_compute((stages[ref.key],), lambda *_: None).get(ref.key)

    @contextmanager
    def _leases(self, bundle: Bundle) -> Iterator[list[Lease]]:
        """Hold the keys of all stages, and at the end wake the tasks that wait for them.

        All tasks take keys in one order, and none holds one while it waits for another.
        """
        with ExitStack() as held:
            yield [held.enter_context(self._lease(stage)) for stage in sorted(bundle, key=lambda stage: stage.key)]

    @contextmanager
    def _lease(self, stage: Stage) -> Iterator[Lease]:
        received, message = self.received, self.kept_messages.sealed(self.received.message())
        lease = self.leases.acquire(stage.key, received.worker, received.id, message)
        if lease is None:
            reason = f"waits: another pipeline computes {stage.title}"
            self.ledger.wait(self.received.pipeline, [stage.key], reason)
            self.capture.note(reason)
            raise Parked(reason)
        try:
            with self.leases.kept(lease):
                yield lease
        finally:
            if not lease.lost:  # Else the worker that took over wakes them.
                with suppress(UnreadableRecord):  # Of what another one waits in; the housekeeping says so.
                    self.leases.unpark(stage.key, self.kept_messages.send)


def _parts(bundle: Bundle) -> Iterator[Bundle]:
    """What is done in one go: all trainings, else stage after stage."""
    if bundle and isinstance(bundle[0].recipe, Training):
        yield bundle
    else:
        yield from ((stage,) for stage in bundle)
