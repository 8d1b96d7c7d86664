"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.bundles import cut
from distill_queue.shared.plan.candidates import Graded
from distill_queue.shared.plan.course import Branch, Step, successive
from distill_queue.shared.plan.formats import format_of
from distill_queue.shared.plan.generations import Generation, Generations
from distill_queue.shared.plan.lessons import Lessons, teachers_of
from distill_queue.shared.plan.recipes import Distill, PrepareData, StudentRuns, TrainControl, WriteReport
from distill_queue.shared.plan.stage import Bundle, Stage
from distill_queue.shared.spec.pipeline import Device, PipelineSpec, Priority


class Plan(Frozen):
    """A pipeline's stages: those before the students in order, then branches side by side, then the end in order.

    Where students teach others, those others are generations between the branches and the end.
    """

    name: str
    device: Device
    #: Part of no key, nor are the three fields below.
    priority: Priority = "normal"
    #: Seconds a stage of a kind may take at one go.
    time_limits: dict[str, float] = Field(default={})
    #: How many workers share the soft labels.
    shards: Literal["auto"] | int = "auto"
    #: Kinds of warnings that are not shown; left out where there are none, so that earlier versions read it.
    accept: Annotated[tuple[str, ...], Field(exclude_if=lambda accept: not accept)] = ()
    #: The data; then, in order, all that comes between the teachers and the students.
    trunk: Annotated[tuple[Stage, ...], Field(min_length=1)]
    #: Several teachers, made side by side after the first stage of the trunk; a single one is part of the trunk.
    teachers: tuple[Stage, ...] = ()
    branches: tuple[Annotated[Branch, Field(min_length=1)], ...]
    #: Students of students; left out where there are none, so that earlier versions read it.
    later: Annotated[tuple[Generation, ...], Field(exclude_if=lambda later: not later)] = ()
    #: The tasks that need all branches, in order.
    tail: tuple[Bundle, ...] = ()
    report: Stage

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        """The plan of a spec; reads the teacher's checkpoint, if there is one, for its hash.

        Raises:
            InvalidSpec: the checkpoint cannot be read.

        """
        data = Stage.of(f"prepare {spec.dataset.called}", PrepareData(dataset=spec.dataset))
        teachers = teachers_of(spec, data)
        own = Lessons.of_teachers(spec, data, teachers)
        graded = Graded(data, own.teacher)
        if own.teacher:
            graded.add("teacher", own.teacher, own.teacher)
        for number, each in enumerate(teachers if own.joined else (), start=1):
            graded.add(f"teacher {number}", each, own.teacher)
        alone = list(graded.evaluations.values())
        students = Generations(spec, data, own, graded)
        return cls(
            name=spec.name,
            device=spec.device,
            priority=spec.priority,
            time_limits=spec.time_limits,
            shards=spec.soft_labels.shards,
            accept=spec.accept,
            trunk=(data, *((own.joined,) if own.joined else teachers), *((own.labels,) if own.labels else ())),
            teachers=teachers if own.joined else (),
            branches=(
                *(((evaluation,),) for evaluation in alone),
                *(((program,),) for program in graded.exports.page_programs(own.teacher)),
                *students.first,
            ),
            later=students.later,
            tail=(*cut(students.choices), *cut(list(graded.of_chosen.values())), *cut(graded.exports_of_chosen)),
            report=Stage.of(
                "report",
                WriteReport(students=students.runs, teachers=len(teachers) if own.joined else 0, budget=spec.budget),
                **graded.scores,
                **graded.exports.scores,
            ),
        )

    def without_scores(self) -> Self:
        """The same up to the trainings of the students: no evaluation, and a report of no student.

        Raises:
            ValueError: the plan has controls, or students that teach others.

        """
        if self.later or any(isinstance(stage.recipe, TrainControl) for stage in self.stages):
            raise ValueError("only plans without controls and without assistants end at their trainings")
        trainings = tuple(
            (branch[0],) for branch in self.branches if all(isinstance(stage.recipe, Distill) for stage in branch[0])
        )
        refs = {f"training {number}": stage.ref for number, stage in enumerate(_within(trainings), start=1)}
        report = Stage.of("end of the trainings", WriteReport(students=()), **refs)
        return self.model_copy(update={"branches": trainings, "tail": (), "report": report})

    @property
    def course(self) -> Iterator[Step]:
        """What the pipeline does in order."""
        first, *others = self.trunk
        yield Step.of((first,))
        if self.teachers:
            yield Step(tuple(((teacher,),) for teacher in self.teachers))
        yield from (Step.of((stage,)) for stage in others)
        yield Step(self.branches)
        for generation in self.later:
            yield from map(Step.of, generation.steps)
            yield Step(generation.branches)
        yield from map(Step.of, self.tail)
        yield Step.of((self.report,))

    @cached_property
    def format(self) -> int:
        """The format of the stages in its messages."""
        return format_of(stage.recipe for stage in self.stages)

    @property
    def bundles(self) -> Iterator[Bundle]:
        """The stages that one task does together, task by task in the course's order."""
        return (bundle for step in self.course for bundle in step.bundles)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage once, each after its inputs."""
        return tuple(stage for bundle in self.bundles for stage in bundle)

    @property
    def students(self) -> tuple[StudentRuns, ...]:
        """Each student's runs, in the spec's order."""
        return self.report.recipe.students if isinstance(self.report.recipe, WriteReport) else ()

    def blocked_by(self, failed: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `failed` have failed.

        These are all stages that come after a failed one, also those that do not need it: a failed task ends its chain.
        """
        blocked: set[str] = set()
        for before, bundle in successive(tuple(self.course)) if failed else ():
            if any(stage.key in failed or stage.key in blocked for stage in before):
                blocked |= {stage.key for stage in bundle}
        return blocked - failed

    @property
    def predecessors(self) -> dict[str, dict[str, Stage]]:
        """By each stage's key: the stages, by their keys, whose end its task waits for."""
        found: dict[str, dict[str, Stage]] = {stage.key: {} for stage in self.stages}
        for before, bundle in successive(tuple(self.course)):
            for stage in bundle:
                found[stage.key] |= {each.key: each for each in before}
        return found


def _within(branches: tuple[Branch, ...]) -> Iterator[Stage]:
    return (stage for branch in branches for bundle in branch for stage in bundle)
