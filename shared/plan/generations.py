"""Generations: students of the pipeline's own teacher, then the students that these teach, and so on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.bundles import bundles, cut
from distill_queue.shared.plan.candidates import Candidates, Graded
from distill_queue.shared.plan.course import Branch
from distill_queue.shared.plan.lessons import Lessons
from distill_queue.shared.plan.recipes import StudentRuns
from distill_queue.shared.plan.stage import Bundle, Stage
from distill_queue.shared.plan.starts import Starts
from distill_queue.shared.spec.assistants import Students
from distill_queue.shared.spec.pipeline import PipelineSpec


class Generation(Frozen):
    """Students that are taught by students of the generation before."""

    #: What makes soft labels of the generation before, in order: choices from grids, averages, labels.
    steps: tuple[Bundle, ...]
    #: The students' trainings, side by side.
    branches: tuple[Annotated[Branch, Field(min_length=1)], ...]


class Generations:
    """The stages of a spec's students, as they are planned one generation after the other."""

    def __init__(self, spec: PipelineSpec, data: Stage, lessons: Lessons, graded: Graded) -> None:
        self._spec, self._data, self._graded = spec, data, graded
        self._starts = Starts(spec.dataset)
        #: By the name of the student that teaches; the pipeline's own teacher has none.
        self._lessons: dict[str | None, Lessons] = {None: lessons}
        self._candidates: dict[str, Candidates] = {}
        #: The trainings of each generation, by key; the first one trains all controls, which need no teacher.
        self._trainings: list[dict[str, Stage]] = []
        #: What comes before each generation but the first.
        self._steps: list[tuple[Bundle, ...]] = []
        for students in spec.generations:
            if self._trainings:
                self._steps.append(self._taught_by(dict.fromkeys(student.teacher or "" for student in students)))
            self._trainings.append({})
            self._add(students)

    @property
    def runs(self) -> tuple[StudentRuns, ...]:
        """Each student's runs, in the spec's order."""
        return tuple(self._candidates[student.name].runs for student in self._spec.students)

    @property
    def first(self) -> tuple[Branch, ...]:
        """The first generation, and all controls."""
        return self._branches(self._trainings[0])

    @property
    def later(self) -> tuple[Generation, ...]:
        """The generations that assistants teach."""
        trainings = map(self._branches, self._trainings[1:])
        return tuple(
            Generation(steps=steps, branches=branches) for steps, branches in zip(self._steps, trainings, strict=True)
        )

    @property
    def choices(self) -> list[Stage]:
        """The choices that no later generation waits for."""
        made = {stage.key for steps in self._steps for bundle in steps for stage in bundle}
        return [choice for key, choice in self._graded.choices.items() if key not in made]

    def _taught_by(self, names: Iterable[str]) -> tuple[Bundle, ...]:
        """Plan what some students teach, and return what must be done for it."""
        choices, joined, labels = dict[str, Stage](), dict[str, Stage](), dict[str, Stage]()
        for name in names:
            candidates, choice = self._candidates[name], self._graded.choice_of(name)
            lessons = Lessons.of_assistant(name, candidates.of_one_point, choice, self._spec, self._data)
            self._lessons[name] = lessons
            # Two students may be one and the same but for their names.
            for found, stage in ((choices, choice), (joined, lessons.joined), (labels, lessons.labels)):
                if stage:
                    found.setdefault(stage.key, stage)
        return (*cut(list(choices.values())), *((stage,) for stage in (joined | labels).values()))

    def _add(self, students: Students) -> None:
        for student in students:
            candidates = Candidates.of(student, self._spec, self._data, self._lessons[student.teacher], self._starts)
            self._candidates[student.name] = candidates
            candidates.grade(self._graded)
            for trainings, made in (
                (self._trainings[-1], candidates.students),
                (self._trainings[0], candidates.controls),
            ):
                for stage in made.values():
                    trainings.setdefault(stage.key, stage)

    def _branches(self, trainings: dict[str, Stage]) -> tuple[Branch, ...]:
        return tuple(self._graded.branch(bundle) for bundle in bundles(list(trainings.values()), self._spec))
