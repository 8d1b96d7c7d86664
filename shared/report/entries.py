"""What the facts of a report consist of: models, students with their controls, stages, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import Predictions, Targets
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import StudentScore
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.store.manifest import Manifest

Role = Literal["teacher", "student", "control"]
#: What an artifact lacks.
MissingKind = Literal["history", "predictions", "test samples", "manifest"]


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
    model: EvaluatedModel
    control: EvaluatedModel | None

    @property
    def both(self) -> tuple[EvaluatedModel, ...]:
        """The two, as far as there are two."""
        return (self.model,) if self.control is None else (self.model, self.control)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A stage, how the pipeline came by its result, and what its artifact says; None where it is not there any more."""

    stage: Stage
    record: StageRecord | None
    manifest: Manifest | None
