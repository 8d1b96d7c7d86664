"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.bundles import bundles, cut
from distill_queue.shared.plan.candidates import Candidates, Graded
from distill_queue.shared.plan.recipes import (
    Distill,
    ImportSoftLabels,
    JoinTeachers,
    LoadTeacher,
    PrepareData,
    SoftLabelling,
    StudentRuns,
    TrainTeacher,
    WriteReport,
)
from distill_queue.shared.plan.stage import Bundle, Stage, checkpoint_ref, label_file_ref
from distill_queue.shared.spec.pipeline import Device, PipelineSpec, Priority
from distill_queue.shared.spec.teacher import LabelTeacherSpec

#: Characters of a file's name in a stage's title.
LONGEST_FILE_NAME = 60


class Plan(Frozen):
    """A pipeline's stages: those before the students in order, then branches side by side, then the end in order."""

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
    branches: tuple[Annotated[tuple[Bundle, ...], Field(min_length=1)], ...]
    #: The tasks that need all branches, in order.
    tail: tuple[Bundle, ...] = ()
    report: Stage

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        """The plan of a spec; reads the teacher's checkpoint, if there is one, for its hash.

        Raises:
            InvalidSpec: the checkpoint cannot be read.

        """
        data = Stage.of(f"prepare {spec.dataset.name}", PrepareData(dataset=spec.dataset))
        teachers = _teachers(spec, data)
        joined = _joined(spec, data, teachers)
        teacher = joined or next(iter(teachers), None)
        labels = _labels(spec, data, teacher)
        students = [Candidates.of(student, spec, data, labels) for student in spec.students]
        graded = Graded(data, teacher)
        if teacher:
            graded.add("teacher", teacher)
        for number, each in enumerate(teachers if joined else (), start=1):
            graded.add(f"teacher {number}", each)
        alone = len(graded.evaluations)
        models: dict[str, Stage] = {}
        for student in students:
            student.grade(graded, models)
        evaluations = list(graded.evaluations.values())
        return cls(
            name=spec.name,
            device=spec.device,
            priority=spec.priority,
            time_limits=spec.time_limits,
            shards=spec.soft_labels.shards,
            accept=spec.accept,
            trunk=(data, *((joined,) if joined else teachers), labels),
            teachers=teachers if joined else (),
            branches=(
                *(((evaluation,),) for evaluation in evaluations[:alone]),
                *(graded.branch(bundle) for bundle in bundles(list(models.values()), spec)),
            ),
            tail=(*cut(list(graded.choices.values())), *cut(list(graded.of_chosen.values()))),
            report=Stage.of(
                "report",
                WriteReport(
                    students=tuple(student.runs for student in students), teachers=len(teachers) if joined else 0
                ),
                **graded.scores,
            ),
        )

    def without_scores(self) -> Self:
        """The same up to the trainings of the students: no control, no evaluation, and a report of no student."""
        trainings = tuple(
            (branch[0],) for branch in self.branches if all(isinstance(stage.recipe, Distill) for stage in branch[0])
        )
        refs = {f"training {number}": stage.ref for number, stage in enumerate(_within(trainings), start=1)}
        report = Stage.of("end of the trainings", WriteReport(students=()), **refs)
        return self.model_copy(update={"branches": trainings, "tail": (), "report": report})

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage once, each after its inputs."""
        return (
            tuple(stage for step in self._before for stage in step)
            + tuple(stage for bundles in (*self.branches, self.tail) for bundle in bundles for stage in bundle)
            + (self.report,)
        )

    @property
    def students(self) -> tuple[StudentRuns, ...]:
        """Each student's runs, in the spec's order."""
        return self.report.recipe.students if isinstance(self.report.recipe, WriteReport) else ()

    @property
    def _before(self) -> tuple[Bundle, ...]:
        """The tasks before the branches, in order."""
        first, *others = self.trunk
        return ((first,), *((self.teachers,) if self.teachers else ()), *((stage,) for stage in others))

    def blocked_by(self, failed: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `failed` have failed.

        These are all stages that come after a failed one, also those that do not need it: a failed task ends its chain.
        """
        blocked: set[str] = set()
        for before, bundle in self._steps if failed else ():
            if any(stage.key in failed or stage.key in blocked for stage in before):
                blocked |= {stage.key for stage in bundle}
        return blocked - failed

    @property
    def predecessors(self) -> dict[str, dict[str, Stage]]:
        """By each stage's key: the stages, by their keys, whose end its task waits for."""
        found: dict[str, dict[str, Stage]] = {stage.key: {} for stage in self.stages}
        for before, bundle in self._steps:
            for stage in bundle:
                found[stage.key] |= {each.key: each for each in before}
        return found

    @property
    def _steps(self) -> Iterator[tuple[Bundle, Bundle]]:
        """Pairs of successive tasks' stages, branch by branch: those of the task before, and the task's own."""
        for branch in self.branches:
            yield from pairwise((*self._before, *branch, *self.tail, (self.report,)))


def _within(branches: tuple[tuple[Bundle, ...], ...]) -> Iterator[Stage]:
    return (stage for branch in branches for bundle in branch for stage in bundle)


def _teachers(spec: PipelineSpec, data: Stage) -> tuple[Stage, ...]:
    found = []
    for number, teacher in enumerate(spec.all_teachers, start=1):
        name = "teacher" if spec.teacher else f"teacher {number}"
        if teacher.checkpoint is not None:
            weights = checkpoint_ref(Path(teacher.checkpoint))
            load = LoadTeacher(model=teacher.model, normalise=teacher.normalise)
            title = f"load {name} from {_file_name(teacher.checkpoint)}"
            found.append(Stage.of(title, load, dataset=data.ref, checkpoint=weights))
        else:
            train = TrainTeacher(model=teacher.model, training=teacher.training)
            found.append(Stage.of(f"train {name}", train, dataset=data.ref))
    return tuple(found)


def _file_name(path: str) -> str:
    """The name of a given file, shortened for a stage's title; a key has only the file's content."""
    name = Path(path).name
    return name if len(name) <= LONGEST_FILE_NAME else f"{name[: LONGEST_FILE_NAME - 1]}…"


def _joined(spec: PipelineSpec, data: Stage, teachers: tuple[Stage, ...]) -> Stage | None:
    """The stage that joins several teachers into one model; None where the spec has one teacher, or none."""
    if not spec.teachers:
        return None
    models = tuple(teacher.model for teacher in spec.teachers)
    weights = tuple(teacher.weight for teacher in spec.teachers)
    refs = {f"teacher {number}": teacher.ref for number, teacher in enumerate(teachers, start=1)}
    normalise = tuple(teacher.normalise for teacher in spec.teachers)
    if set(normalise) == {"data"}:
        normalise = ()
    recipe = JoinTeachers(models=models, weights=weights, average=spec.average, normalise=normalise)
    return Stage.of("join teachers", recipe, dataset=data.ref, **refs)


def _labels(spec: PipelineSpec, data: Stage, teacher: Stage | None) -> Stage:
    """The stage of the soft labels: computed, or imported from a file."""
    what = spec.soft_labels.model_dump(include={"dtype", "top_k", "views"}) | {
        "augmentation": spec.soft_labels.augmentation
    }
    if teacher:
        return Stage.of("soft labels", SoftLabelling(**what), dataset=data.ref, teacher=teacher.ref)
    given = LabelTeacherSpec.model_validate(spec.teacher)
    file = label_file_ref(Path(given.soft_labels))
    return Stage.of(
        f"import soft labels from {_file_name(given.soft_labels)}",
        ImportSoftLabels(**what),
        dataset=data.ref,
        file=file,
    )
