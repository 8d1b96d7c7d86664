"""Trainings of a study: candidates as pipelines on the queue, and their accuracies on held-out samples in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean

from distill_queue.scheduler.client.client import Pipeline, PipelineClient
from distill_queue.scheduler.tune.rung import Rung
from distill_queue.scheduler.tune.trial import Trial
from distill_queue.scheduler.tune.tuned_spec import TunedSpec
from distill_queue.scheduler.watch.waiting import Served, unserved
from distill_queue.shared.errors import DistillError, PipelineFailed
from distill_queue.shared.ledger.status import PipelineStatus, State
from distill_queue.shared.plan.bundles import SMALLEST_BUNDLE
from distill_queue.shared.plan.candidates import Candidates
from distill_queue.shared.plan.lessons import Lessons
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Distill, Labels
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.plan.starts import Starts
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.pipeline import EvaluationSpec, PipelineSpec
from distill_queue.shared.spec.student import GridPoint, StudentGrid
from distill_queue.shared.store.store import ArtifactStore


@dataclass(slots=True)
class Trainings:
    """Has candidates trained until a time, after which it only reads what is in the store."""

    client: PipelineClient
    store: ArtifactStore
    tuned: TunedSpec
    #: When to stop, by the monotonic clock.
    deadline: float
    #: Called again and again while pipelines run.
    tend: Callable[[], object]
    #: The queues that workers serve; None where that is not to be told.
    served: Callable[[], Served]
    #: Tells the user something, in a line.
    say: Callable[[str], None]
    #: The stages that every training needs.
    _data: Stage = field(init=False)
    _lessons: Lessons = field(init=False)
    #: Reads each file of weights once, for all rounds.
    _starts: Starts = field(init=False)

    def __post_init__(self) -> None:
        plan = Plan.of(self.tuned.spec)
        self._data, self._lessons = plan.trunk[0], _lessons_at_the_end_of(plan)
        self._starts = Starts(self.tuned.spec.dataset)

    def __call__(self, trials: list[Trial], rung: Rung) -> bool:
        """Train trials as a rung trains them, and enter their accuracies; return whether there was time for all.

        Raises:
            PipelineFailed: a pipeline was cancelled elsewhere, or failed before its trainings.
            BrokerUnavailable: the broker was away for too long.

        """
        stages = self._stages(trials, rung)
        absent = [trial for trial in trials if self._held_out(stages[trial.number]) is None]
        if absent and time.monotonic() < self.deadline:
            self._train(absent, rung)
        for trial in trials:
            if (accuracy := self._held_out(stages[trial.number])) is not None:
                trial.held_out.append(accuracy)
                trial.error = ""
        without = [trial for trial in absent if not trial.error and self._held_out(stages[trial.number]) is None]
        if without and time.monotonic() < self.deadline:
            raise PipelineFailed(
                f"trials were trained, and {self.store} does not have them: workers need the same DISTILL_STORE"
            )
        return not without

    def _train(self, trials: list[Trial], rung: Rung) -> None:
        """Have trials trained, side by side on as many workers as there are; cancel what is left when time is up."""
        workers = sum(self.tuned.spec.device in worker.queues for worker in self.client.workers())
        pieces = max(1, min(workers, len(trials) * rung.seeds // SMALLEST_BUNDLE))
        pipelines: list[Pipeline] = []
        try:
            for piece in range(pieces):
                pipelines.append(self.client.submit_trainings(self._spec(trials[piece::pieces], rung)))  # noqa: PERF401 (each is cancelled if a later one cannot be sent)
            for pipeline in pipelines:
                status = self._followed(pipeline)
                if not status.finished:
                    break
                _enter_errors(status, trials, self._stages(trials, rung))
        finally:
            for pipeline in pipelines:
                with suppress(DistillError):  # What is finished stays as it is; the rest is found or begun again later.
                    pipeline.cancel()

    def _followed(self, pipeline: Pipeline) -> PipelineStatus:
        """The status of a pipeline at its end, or when time is up."""
        told = ""
        for status in self.client.watch(pipeline):
            self.tend()
            if time.monotonic() >= self.deadline:
                break
            if (why := unserved(status, self.served())) != told:
                told = why
                if why:
                    self.say(why)
        return status

    def _spec(self, trials: list[Trial], rung: Rung) -> PipelineSpec:
        """The spec of trials, as candidates of one student."""
        points = tuple(
            GridPoint(label=f"trial {trial.number}", student=rung.trained(trial.student)) for trial in trials
        )
        grid = StudentGrid(name=self.tuned.student.name, points=points)
        return self.tuned.spec.model_copy(
            update={
                "name": f"{self.tuned.spec.name}-tune",
                "students": (grid,),
                "evaluation": EvaluationSpec(control=False),
            }
        )

    def _stages(self, trials: list[Trial], rung: Rung) -> dict[int, list[Stage]]:
        """The trainings of each trial, by its number."""
        spec = self._spec(trials, rung)
        found = Candidates.of(spec.students[0], spec, self._data, self._lessons, self._starts).students
        return {
            trial.number: [stage for (label, _), stage in found.items() if label == f"trial {trial.number}"]
            for trial in trials
        }

    def _held_out(self, stages: list[Stage]) -> float | None:
        """The mean accuracy of some trainings on held-out samples; None if one of them is not in the store."""
        accuracies = list(self._accuracies(stages))
        return fmean(accuracies) if len(accuracies) == len(stages) else None

    def _accuracies(self, stages: list[Stage]) -> Iterator[float]:
        for stage in stages:
            artifact = self.store.find(stage.ref)
            if artifact is None:
                return
            if isinstance(artifact.record, TrainingRecord):
                if artifact.record.held_out_accuracy is None:
                    raise PipelineFailed("the data have no held-out samples to choose by: set dataset.validation")
                yield artifact.record.held_out_accuracy


def _lessons_at_the_end_of(plan: Plan) -> Lessons:
    """What the students of a plan learn from: its trunk ends with the labels, or with a teacher that answers itself."""
    last = plan.trunk[-1]
    return Lessons(None, last) if isinstance(last.recipe, Labels) else Lessons(last, None)


def _enter_errors(status: PipelineStatus, trials: list[Trial], stages: dict[int, list[Stage]]) -> None:
    """Enter why trials of a finished pipeline have no result.

    Raises:
        PipelineFailed: it was cancelled, or failed before its trainings.

    """
    if status.state == State.CANCELLED:
        raise PipelineFailed(f"{status.id} was cancelled: the same command goes on where the study was left")
    failed = {key: state.error for key, state in status.states.items() if state.state == State.FAILED}
    for stage in status.plan.stages:
        if stage.key in failed and not isinstance(stage.recipe, Distill):
            raise PipelineFailed(f"{status.id} failed: {failed[stage.key]}: see 'distill logs {status.id}'")
    for trial in trials:
        for stage in stages[trial.number]:
            trial.error = trial.error or failed.get(stage.key, "")
