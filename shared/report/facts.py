"""What a report is made of: the facts in a pipeline's ledger, and those in the artifacts that are still there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import PipelineFailed
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.report.entries import EvaluatedModel, Lineage, Missing, Student
from distill_queue.shared.report.reader import FactsReader
from distill_queue.shared.results.class_scores import imbalanced
from distill_queue.shared.results.page_program import PageProgram
from distill_queue.shared.results.predictions import Targets
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.store.store import ArtifactStore


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """All that a report says, as numbers."""

    status: PipelineStatus
    scores: ReportRecord
    dataset: DatasetRecord
    #: The targets and the memory-mapped inputs of the test samples; None if the store has lost them.
    targets: Targets | None
    inputs: npt.NDArray[Any] | None
    teacher: EvaluatedModel | None
    #: The single teachers, if `teacher` is their average.
    teachers: tuple[EvaluatedModel, ...]
    students: tuple[Student, ...]
    lineage: tuple[Lineage, ...]
    missing: tuple[Missing, ...]
    #: Of exported students, and of the teacher, by name: what the page can compute answers with, or why it cannot.
    programs: dict[str, PageProgram] = field(default_factory=dict)

    @classmethod
    def read(cls, status: PipelineStatus, store: ArtifactStore) -> Self:
        """The facts of a finished pipeline; what the store has lost is listed as missing.

        Raises:
            PipelineFailed: it has no results.

        """
        done = [status.states[stage.key].record for stage in (status.plan.report, status.plan.trunk[0])]
        scores, dataset = (each and each.record for each in done)
        if not (isinstance(scores, ReportRecord) and isinstance(dataset, DatasetRecord)):
            raise PipelineFailed(f"{status.id} is {status.state}: it has no results")
        reader = FactsReader(status.plan, store, scores)
        lineage = tuple(
            Lineage(stage, status.states[stage.key].record, reader.manifest(stage)) for stage in status.plan.stages
        )
        students = []
        for score, run in zip(scores.students, status.plan.students, strict=True):
            evaluations = [each.student for each in score.runs]
            model = reader.model(score.name, "student", [run.role(each.seed) for each in score.runs], evaluations)
            control, alone = None, [each.control for each in score.runs if each.control]
            if alone:
                names = [run.control(each.seed) for each in score.runs]
                control = reader.model(f"{score.name}/control", "control", names, alone)
            students.append(Student(score, model, control))
        programs = reader.programs()
        return cls(
            status=status,
            scores=scores,
            dataset=dataset,
            targets=reader.test_samples("test_targets.npy"),
            inputs=reader.test_samples("test_inputs.npy", mapped=True),
            teacher=reader.model("teacher", "teacher", ["teacher"], [scores.teacher]) if scores.teacher else None,
            teachers=tuple(
                reader.model(f"teacher {number}", "teacher", [f"teacher {number}"], [evaluation])
                for number, evaluation in enumerate(scores.teachers, start=1)
            ),
            students=tuple(students),
            lineage=lineage,
            missing=tuple(reader.missing),
            programs=programs,
        )

    @property
    def models(self) -> tuple[EvaluatedModel, ...]:
        """Every model once: students may share a control."""
        controls = {each.control.evaluations: each.control for each in self.students[::-1] if each.control}
        teacher = () if self.teacher is None else (self.teacher,)
        return (*teacher, *self.teachers, *(each.model for each in self.students), *reversed(controls.values()))

    @property
    def each_teacher(self) -> tuple[EvaluatedModel, ...]:
        """The teacher, or the single ones if `teacher` is their average."""
        return self.teachers or (() if self.teacher is None else (self.teacher,))

    @property
    def by_class(self) -> bool:
        """Whether means over the classes are told: where classes are imbalanced, or a training asks for such."""
        return self.scores.by_class or (self.targets is not None and imbalanced(np.bincount(self.targets)))

    def best(self, count: int) -> tuple[Student, ...]:
        """The students of the highest accuracy, in the spec's order."""
        ranked = sorted(self.students, key=lambda student: -student.model.accuracy)[:count]
        return tuple(student for student in self.students if student in ranked)
