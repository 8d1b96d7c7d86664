"""Scores: how good the models of a pipeline are, over the seeds of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.results.budget import BudgetVerdict
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord


class Estimate(Frozen):
    """A mean over seeds, with its 95 % confidence interval by Student's t; without one where there is one seed."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    n: int


class StudentRun(Frozen):
    """A student beside its control, trained with one seed."""

    seed: int
    student: EvaluationRecord
    control: EvaluationRecord | None


class StudentScore(Frozen):
    """A student over its seeds, and what the teacher brought."""

    name: str
    #: The assistant that taught it, another student; left out where the pipeline's own teacher did.
    teacher: Annotated[str | None, Field(exclude_if=lambda teacher: teacher is None)] = None
    runs: tuple[StudentRun, ...] = Field(min_length=1)
    accuracy: Estimate
    #: The controls' accuracy; None without controls, like `gain` and `gap_closed`.
    control_accuracy: Estimate | None
    #: The student's accuracy less its control's with the same seed, as a share of 1.
    gain: Estimate | None
    #: `gain` as a share of the gap between control and teacher; None where there is no gap.
    gap_closed: Estimate | None
    #: Which points of their grids were chosen for student and control, where they have grids.
    choice: ChoiceRecord | None = None
    control_choice: ChoiceRecord | None = None
    #: The files that its first seed's model was exported to, in the spec's order.
    exports: Annotated[tuple[ExportRecord, ...], Field(exclude_if=lambda exports: not exports)] = ()

    @property
    def student(self) -> EvaluationRecord:
        """The first seed's student."""
        return self.runs[0].student

    @property
    def control(self) -> EvaluationRecord | None:
        """The first seed's control."""
        return self.runs[0].control

    @property
    def verdict(self) -> Literal["better", "not better", "inconclusive", ""]:
        """Whether the teacher helped: by where the gain's interval lies; empty without controls or with one seed."""
        if self.gain is None or self.gain.low is None or self.gain.high is None:
            return ""
        if self.gain.low > 0.0:
            return "better"
        return "not better" if self.gain.high <= 0.0 else "inconclusive"


#: How a model is built, as far as an evaluation tells: parameters, multiply-adds, device.
Build = tuple[int, int, str]


class ReportRecord(Frozen):
    """All scores of a pipeline."""

    kind: Literal["report"] = "report"
    #: None if the teacher is known by its labels only.
    teacher: EvaluationRecord | None
    #: The single teachers, if `teacher` is their average.
    teachers: tuple[EvaluationRecord, ...] = ()
    students: tuple[StudentScore, ...]
    #: What came of the spec's budget; left out where it has none.
    budget: Annotated[BudgetVerdict | None, Field(exclude_if=lambda budget: budget is None)] = None

    def fastest(self, model: EvaluationRecord) -> EvaluationRecord:
        """The fastest measurement among the models that are built as this one; it stands for all of them.

        Their times differ only by what else their machines did. Models are built alike if they have as many parameters
        and multiply-adds, on the same device: as a student with each seed, and its control.
        """
        return self._fastest[_build(model)]

    @cached_property
    def _fastest(self) -> dict[Build, EvaluationRecord]:
        slowest_first = sorted(self._evaluations(), key=lambda each: -each.latency_median_ms)
        return {_build(each): each for each in slowest_first}

    def _evaluations(self) -> Iterator[EvaluationRecord]:
        yield from (self.teacher, *self.teachers) if self.teacher else ()
        for run in (run for score in self.students for run in score.runs):
            yield run.student
            if run.control:
                yield run.control

    @property
    def by_class(self) -> bool:
        """Whether means over the classes are told: where classes are imbalanced, or a training asks for such."""
        return any(each.classes for each in self._evaluations())

    @property
    def summary(self) -> str:
        """The record in a few words."""
        scores = (f"{score.name} {score.accuracy.mean:.2%}" for score in self.students)
        teacher = () if self.teacher is None else (f"teacher {self.teacher.accuracy:.2%}",)
        return ", ".join((*teacher, *scores))


def _build(model: EvaluationRecord) -> Build:
    return model.parameters, model.multiply_adds, model.device
