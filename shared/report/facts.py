"""What a pipeline's report is made of: the facts in its ledger, and those in the artifacts that are still there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, PipelineFailed, store_errors
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate, JoinTeachers, Training, WriteReport
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.history import HISTORY, History, history_of
from distill_queue.shared.results.predictions import CONFIDENCES, PREDICTIONS, Predictions, Targets
from distill_queue.shared.results.records import DatasetRecord, EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentScore
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.manifest import Manifest
from distill_queue.shared.store.store import ArtifactStore

Role = Literal["teacher", "student", "control"]
#: What could not be read of an artifact.
What = Literal["history", "predictions", "test samples", "manifest"]


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that the report has to do without."""

    what: What
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Graded:
    """A model, or one trained with several seeds: its scores, and what its artifacts tell besides."""

    name: str
    role: Role
    #: One a seed.
    evaluations: tuple[EvaluationRecord, ...]
    #: That of the fastest model that is built as this one: the times of all of them.
    fastest: EvaluationRecord
    #: One a seed, or none at all.
    predictions: tuple[Predictions, ...] = ()
    histories: tuple[History, ...] = ()

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return fmean(each.accuracy for each in self.evaluations)

    @property
    def latency_ms(self) -> float:
        """Median of a forward pass at batch 1, as `ReportRecord.fastest`."""
        return self.fastest.latency_median_ms

    @property
    def parameters(self) -> int:
        """Of each seed's model."""
        return self.evaluations[0].parameters

    def calibration(self, targets: Targets) -> Calibration:
        """Over all seeds' predictions."""
        return sum((each.calibration(targets) for each in self.predictions), Calibration.none())

    def confusion(self, targets: Targets, classes: int) -> npt.NDArray[np.int64]:
        """Over all seeds' predictions, as `Predictions.confusion`."""
        counts = (each.confusion(targets, classes) for each in self.predictions)
        return sum(counts, np.zeros((classes, classes), np.int64))


@dataclass(frozen=True, slots=True)
class Student:
    """A student beside its control."""

    score: StudentScore
    graded: Graded
    control: Graded | None

    @property
    def both(self) -> tuple[Graded, ...]:
        """The two, as far as there are two."""
        return (self.graded,) if self.control is None else (self.graded, self.control)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A stage, how the pipeline came by its result, and what its artifact says; None where it is not there any more."""

    stage: Stage
    record: StageRecord | None
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """All that a report says, as numbers."""

    status: PipelineStatus
    scores: ReportRecord
    dataset: DatasetRecord
    #: Of the test samples; none where they are not in the store any more, like the inputs, which are memory-mapped.
    targets: Targets | None
    inputs: npt.NDArray[Any] | None
    teacher: Graded | None
    #: Where `teacher` is the average of several: each of them.
    teachers: tuple[Graded, ...]
    students: tuple[Student, ...]
    lineage: tuple[Lineage, ...]
    missing: tuple[Missing, ...]

    @classmethod
    def read(cls, status: PipelineStatus, store: ArtifactStore) -> Self:
        """The facts of a finished pipeline; what the store has lost is listed as missing.

        Raises:
            PipelineFailed: it has no results.

        """
        scores, dataset = (_record(status, stage) for stage in (status.plan.report, status.plan.trunk[0]))
        recipe = status.plan.report.recipe
        if not (isinstance(scores, ReportRecord) and isinstance(dataset, DatasetRecord)):
            raise PipelineFailed(f"{status.id} is {status.state}: it has no results")
        runs = recipe.students if isinstance(recipe, WriteReport) else ()
        reader = _Reader(status.plan, store, scores)
        lineage = tuple(
            Lineage(stage, status.states[stage.key].record, reader.manifest(stage)) for stage in status.plan.stages
        )
        students = []
        for score, run in zip(scores.students, runs, strict=True):
            names = [(run.role(each.seed), run.control(each.seed)) for each in score.runs]
            graded = reader.graded(
                score.name, "student", [name for name, _ in names], [each.student for each in score.runs]
            )
            alone = [each.control for each in score.runs if each.control]
            controls = [name for _, name in names] if alone else []
            control = reader.graded(f"{score.name}/control", "control", controls, alone) if alone else None
            students.append(Student(score, graded, control))
        return cls(
            status=status,
            scores=scores,
            dataset=dataset,
            targets=reader.test_samples("test_targets.npy"),
            inputs=reader.test_samples("test_inputs.npy", mapped=True),
            teacher=reader.graded("teacher", "teacher", ["teacher"], [scores.teacher]) if scores.teacher else None,
            teachers=tuple(
                reader.graded(f"teacher {number}", "teacher", [f"teacher {number}"], [evaluation])
                for number, evaluation in enumerate(scores.teachers, start=1)
            ),
            students=tuple(students),
            lineage=lineage,
            missing=tuple(reader.missing),
        )

    @property
    def models(self) -> tuple[Graded, ...]:
        """Every model once: students may share a control."""
        controls = {each.control.evaluations: each.control for each in self.students[::-1] if each.control}
        teacher = () if self.teacher is None else (self.teacher,)
        return (*teacher, *self.teachers, *(each.graded for each in self.students), *reversed(controls.values()))

    @property
    def each_teacher(self) -> tuple[Graded, ...]:
        """The teacher, or where it is the average of several, these."""
        return self.teachers or (() if self.teacher is None else (self.teacher,))

    def best(self, count: int) -> tuple[Student, ...]:
        """The students of the highest accuracy, in the spec's order."""
        ranked = sorted(self.students, key=lambda student: -student.graded.accuracy)[:count]
        return tuple(student for student in self.students if student in ranked)

    def misses(self, what: What) -> tuple[Missing, ...]:
        """What is missing of a kind, in the plan's order."""
        places = {each.stage.title: place for place, each in enumerate(self.lineage)}
        return tuple(sorted({each for each in self.missing if each.what == what}, key=lambda each: places[each.title]))


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """The places of those than which none is as good or better at a lower cost, the cheapest first."""
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place])):
        if not front or accuracies[place] > accuracies[front[-1]]:
            front.append(place)
    return front


def most_confused(confusion: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The classes that are most often taken for others, or others for them; in their own order."""
    wrong = confusion - np.diag(np.diag(confusion))
    return np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:count])


def class_accuracies(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of each class's samples that are given their own class; not a number where a class has none."""
    samples = confusion.sum(1)
    return np.divide(np.diag(confusion), samples, out=np.full(len(samples), np.nan), where=samples > 0)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads artifacts, and notes what cannot be read."""

    plan: Plan
    store: ArtifactStore
    scores: ReportRecord
    missing: list[Missing] = field(default_factory=list)
    _opened: dict[str, Artifact | str] = field(default_factory=dict)

    def manifest(self, stage: Stage) -> Manifest | None:
        """The manifest of a stage's artifact."""
        found = self._open(stage.ref)
        if isinstance(found, Artifact):
            return found.manifest
        self.missing.append(Missing("manifest", stage.title, found))
        return None

    def graded(self, name: str, role: Role, inputs: Sequence[str], evaluations: Iterable[EvaluationRecord]) -> Graded:
        """A model by the names of its evaluations among the report's inputs, one a seed."""
        refs = [self.plan.report.inputs[each] for each in inputs]
        evaluations = tuple(evaluations)
        predictions = [self._predictions(ref) for ref in refs]
        histories = [self._history(ref) for ref in refs]
        return Graded(
            name,
            role,
            evaluations,
            self.scores.fastest(evaluations[0]),
            tuple(each for each in predictions if each is not None) if None not in predictions else (),
            tuple(each for each in histories if each is not None),
        )

    def test_samples(self, name: str, *, mapped: bool = False) -> npt.NDArray[Any] | None:
        """An array of the data set's test samples; a mapped one may be very large, and is verified only if brought."""
        data = self.plan.trunk[0]
        found = self._open(data.ref)
        try:
            if isinstance(found, Artifact):
                path = self.store.local_file(found, name) if mapped else self.store.verified(found, name)
                return read_array(path, mapped=mapped)
        except ArtifactDamaged:
            found = "damaged"
        self.missing.append(Missing("test samples", data.title, found))
        return None

    def _predictions(self, evaluation: ArtifactRef) -> Predictions | None:
        found = self._files("predictions", self._stage(evaluation), PREDICTIONS, CONFIDENCES)
        with store_errors(self.store.root):
            return Predictions.read(*found) if found else None

    def _history(self, evaluation: ArtifactRef) -> History | None:
        """That of the evaluated model's training."""
        graded = self._stage(evaluation)
        model = self._stage(graded.inputs["model"])
        if isinstance(model.recipe, Training):
            name = HISTORY
        elif isinstance(graded.recipe, Evaluate) and graded.recipe.seed is not None:
            name = history_of(graded.recipe.seed)
        elif isinstance(model.recipe, JoinTeachers):
            return None  # Those that it is made of have each their own.
        else:
            self.missing.append(Missing("history", model.title, "no training made it"))
            return None
        found = self._files("history", model, name)
        with store_errors(self.store.root):
            return History.read(*found) if found else None

    def _files(self, what: What, stage: Stage, *names: str) -> list[Any] | None:
        """The verified paths of some files of a stage's artifact."""
        found = self._open(stage.ref)
        if isinstance(found, Artifact):
            if not all(name in found.manifest.files for name in names):
                found = "made by a version that kept none"
            else:
                try:
                    return [self.store.verified(found, name) for name in names]
                except ArtifactDamaged:
                    found = "damaged"
        self.missing.append(Missing(what, stage.title, found))
        return None

    def _stage(self, ref: ArtifactRef) -> Stage:
        return next(stage for stage in self.plan.stages if stage.key == ref.key)

    def _open(self, ref: ArtifactRef) -> Artifact | str:
        """An artifact, or in words why there is none."""
        if ref.key not in self._opened:
            try:
                self._opened[ref.key] = self.store.glance(ref)
            except ArtifactMissing:
                self._opened[ref.key] = "not in the store any more"
            except ArtifactDamaged:
                self._opened[ref.key] = "damaged"
        return self._opened[ref.key]


def _record(status: PipelineStatus, stage: Stage) -> Any:
    """The record of a stage, if it is done."""
    done = status.states[stage.key].record
    return done.record if done else None
