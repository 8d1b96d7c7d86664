"""What the facts of a report consist of: models, students with their controls, stages, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.class_scores import ClassScores
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import Predictions, Targets
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import StudentScore
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.store.manifest import Manifest

Role = Literal["teacher", "student", "control"]
#: What an artifact lacks.
MissingKind = Literal["history", "predictions", "test samples", "manifest", "program"]


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that the report has to do without."""

    kind: MissingKind
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model, or one trained with several seeds: its scores, and what its artifacts tell besides."""

    name: str
    role: Role
    #: One for each seed.
    evaluations: tuple[EvaluationRecord, ...]
    #: The evaluation of the fastest model that is built like this one; its times stand for all of them.
    fastest: EvaluationRecord
    #: One for each seed, or none at all.
    predictions: tuple[Predictions, ...] = ()
    histories: tuple[History, ...] = ()

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the seeds."""
        return fmean(each.accuracy for each in self.evaluations)

    @property
    def latency_ms(self) -> float:
        """Median milliseconds of a forward pass at batch 1, of the fastest model that is built like this one."""
        return self.fastest.latency_median_ms

    @property
    def size_bytes(self) -> int:
        """Bytes of the file of its weights."""
        return self.evaluations[0].size_bytes

    @property
    def parameters(self) -> int:
        """Number of parameters, the same for each seed."""
        return self.evaluations[0].parameters

    def calibration(self, targets: Targets) -> Calibration:
        """The calibration over the predictions of all seeds."""
        return sum((each.calibration(targets) for each in self.predictions), Calibration.none())

    def class_scores(self, targets: Targets, classes: int) -> tuple[ClassScores, ...]:
        """How well the model tells each class, by the predictions of each seed."""
        return tuple(ClassScores.of(each.confusion(targets, classes)) for each in self.predictions)

    def confusion(self, targets: Targets, classes: int) -> npt.NDArray[np.int64]:
        """The confusion over the predictions of all seeds, as `Predictions.confusion`."""
        counts = (each.confusion(targets, classes) for each in self.predictions)
        return sum(counts, np.zeros((classes, classes), np.int64))


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A student's file beside the models, in figures."""

    name: str
    accuracy: float
    size_bytes: int
    latency_ms: float
    role: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class Student:
    """A student beside its control."""

    score: StudentScore
    model: EvaluatedModel
    control: EvaluatedModel | None

    @property
    def both(self) -> tuple[EvaluatedModel, ...]:
        """The student, and its control if there is one."""
        return (self.model,) if self.control is None else (self.model, self.control)

    @property
    def files(self) -> tuple[ExportedFile, ...]:
        """The files that it was exported to."""
        return tuple(
            ExportedFile(f"{self.model.name} {each.format}", each.accuracy, each.size_bytes, each.latency_median_ms)
            for each in self.score.exports
        )


@dataclass(frozen=True, slots=True)
class Lineage:
    """A stage, its record in the pipeline, and the manifest of its artifact: None if the store has lost it."""

    stage: Stage
    record: StageRecord | None
    manifest: Manifest | None
