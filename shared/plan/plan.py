"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    Counting,
    Distill,
    Evaluate,
    ImportSoftLabels,
    JoinTeachers,
    LoadTeacher,
    PrepareData,
    SoftLabelling,
    StudentRuns,
    TrainControl,
    Training,
    TrainTeacher,
    WriteReport,
    models_of,
)
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage, checkpoint_ref, label_file_ref
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.pipeline import Device, PipelineSpec, Priority
from distill_queue.shared.spec.student import StudentGrid, StudentSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec

#: Most stages that one task does together.
LARGEST_BUNDLE = 64
#: Fewest trainings that are stacked: two take as long together as one after the other (measured on 2 cores).
SMALLEST_BUNDLE = 3
#: Characters of a file's name in a stage's title.
LONGEST_FILE_NAME = 60


class Plan(Frozen):
    """A pipeline's stages: those before the students in order, then branches side by side, then the end in order."""

    name: str
    device: Device
    #: No part of any key, like the three below.
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
    #: What needs all branches, in order.
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
        students = [_Candidates.of(student, spec, data, labels) for student in spec.students]
        graded = _Graded(data, teacher)
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
                *(graded.branch(bundle) for bundle in _bundles(list(models.values()), spec)),
            ),
            tail=(*_cut(list(graded.choices.values())), *_cut(list(graded.of_chosen.values()))),
            report=Stage.of(
                "report",
                WriteReport(
                    students=tuple(student.runs for student in students), teachers=len(teachers) if joined else 0
                ),
                **graded.scores,
            ),
        )

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
        """What comes before the branches, step by step."""
        first, *others = self.trunk
        return ((first,), *((self.teachers,) if self.teachers else ()), *((stage,) for stage in others))

    def blocked_by(self, failed: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `failed` have failed.

        They are all that come after a failed one, whether they need it or not: its task ends the chain that it is in.
        """
        blocked: set[str] = set()
        for before, bundle in self._steps if failed else ():
            if any(stage.key in failed or stage.key in blocked for stage in before):
                blocked |= {stage.key for stage in bundle}
        return blocked - failed

    @property
    def predecessors(self) -> dict[str, dict[str, Stage]]:
        """Of each stage, by key, the stages whose end its task waits for, by theirs."""
        found: dict[str, dict[str, Stage]] = {stage.key: {} for stage in self.stages}
        for before, bundle in self._steps:
            for stage in bundle:
                found[stage.key] |= {each.key: each for each in before}
        return found

    @property
    def _steps(self) -> Iterator[tuple[Bundle, Bundle]]:
        """Each task's stages behind those of the task before it, branch by branch."""
        for branch in self.branches:
            yield from pairwise((*self._before, *branch, *self.tail, (self.report,)))


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
    """The name of a given file for titles, which are part of no key: else only its content would be known."""
    name = Path(path).name
    return name if len(name) <= LONGEST_FILE_NAME else f"{name[: LONGEST_FILE_NAME - 1]}…"


def _joined(spec: PipelineSpec, data: Stage, teachers: tuple[Stage, ...]) -> Stage | None:
    """Several teachers as one; None where there is one, or none."""
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
    """The soft labels: computed, or taken from a file."""
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


@dataclass(frozen=True, slots=True)
class _Candidates:
    """A student's trainings: of each point of its grid, for each seed; one point where it has no grid."""

    runs: StudentRuns
    labels: tuple[str, ...]
    #: By label and seed; the controls are missing where the spec wants none.
    students: dict[tuple[str, int], Stage]
    controls: dict[tuple[str, int], Stage]

    @classmethod
    def of(cls, student: StudentSpec | StudentGrid, spec: PipelineSpec, data: Stage, labels: Stage) -> Self:
        if isinstance(student, StudentGrid):
            points = {point.label: point.student for point in student.points}
        else:
            points = {"": student}
        first = next(iter(points.values()))
        seeds = tuple(range(first.training.seed, first.training.seed + first.seeds))
        runs = StudentRuns(name=student.name, seeds=seeds)
        students, controls = {}, {}
        for label, point in points.items():
            where = f" ({label})" if label else ""
            for seed in seeds:
                training = point.training.model_copy(update={"seed": seed})
                distill = Distill(model=point.model, distillation=point.distillation, training=training)
                students[label, seed] = Stage.of(
                    f"distill {runs.role(seed)}{where}", distill, dataset=data.ref, soft_labels=labels.ref
                )
                if spec.evaluation.control:
                    alone = TrainControl(
                        model=point.model,
                        training=training,
                        views=spec.soft_labels.views,
                        augmentation=spec.soft_labels.augmentation,
                    )
                    controls[label, seed] = Stage.of(f"train {runs.control(seed)}{where}", alone, dataset=data.ref)
        return cls(runs, tuple(points), students, controls)

    def grade(self, graded: _Graded, models: dict[str, Stage]) -> None:
        """Enter all trainings, and how the report comes to a score of each seed."""
        for name, role, trained in (
            (self.runs.name, self.runs.role, self.students),
            (f"{self.runs.name}/control", self.runs.control, self.controls),
        ):
            for model in trained.values():
                models.setdefault(model.key, model)
            # Points that do not differ in what a control is trained by have one control: nothing to choose then.
            different: dict[str, str] = {}
            for label in self.labels if trained else ():
                different.setdefault(trained[label, self.runs.seeds[0]].key, label)
            labels = tuple(different.values())
            if len(labels) > 1:
                graded.add_choice(name, role, labels, self.runs.seeds, trained)
            elif labels:
                for seed in self.runs.seeds:
                    graded.add(role(seed), trained[labels[0], seed])


class _Graded:
    """The evaluations that a report needs, and what chooses their models."""

    def __init__(self, data: Stage, teacher: Stage | None) -> None:
        self._beside = {"dataset": data.ref} | ({"teacher": teacher.ref} if teacher else {})
        #: Of given models, by the model's key.
        self.evaluations: dict[str, Stage] = {}
        self.choices: dict[str, Stage] = {}
        #: Of chosen models, by their own key.
        self.of_chosen: dict[str, Stage] = {}
        #: The report's inputs, by role.
        self.scores: dict[str, ArtifactRef] = {}

    def add(self, role: str, model: Stage) -> None:
        """Have a model scored for a role."""
        inputs = {"model": model.ref, **self._beside}
        recipe = Evaluate(counting=_counting(models_of(model.recipe)))
        evaluation = self.evaluations.setdefault(model.key, Stage.of(f"evaluate {role}", recipe, **inputs))
        self.scores[role] = evaluation.ref

    def add_choice(
        self,
        name: str,
        role: Callable[[int], str],
        labels: tuple[str, ...],
        seeds: tuple[int, ...],
        trained: dict[tuple[str, int], Stage],
    ) -> None:
        """Have the best of some models chosen, and scored for a role a seed."""
        refs = {f"{place}/{seed}": trained[label, seed].ref for place, label in enumerate(labels) for seed in seeds}
        recipes = (trained[label, seeds[0]].recipe for label in labels)
        models = tuple(recipe.model for recipe in recipes if isinstance(recipe, Training))
        recipe = ChooseStudent(labels=_what_differs(labels), models=models, seeds=seeds)
        choice = Stage.of(f"choose {name}", recipe, **refs)
        choice = self.choices.setdefault(choice.key, choice)
        self.scores[f"{name}/choice"] = choice.ref
        for seed in seeds:
            inputs = {"model": choice.ref, **self._beside}
            chosen = Evaluate(seed=seed, counting=_counting(models))
            evaluation = Stage.of(f"evaluate {role(seed)}", chosen, **inputs)
            self.scores[role(seed)] = self.of_chosen.setdefault(evaluation.key, evaluation).ref

    def branch(self, bundle: Bundle) -> tuple[Bundle, ...]:
        """Trainings, and the evaluations of those that are not chosen from."""
        evaluations = tuple(self.evaluations[model.key] for model in bundle if model.key in self.evaluations)
        return (bundle, evaluations) if evaluations else (bundle,)


def _counting(models: tuple[ModelSpec, ...]) -> Counting:
    return "layers" if all(model.counted_by_layers for model in models) else "operators"


def _what_differs(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels without the parts that all of them have: of a control, what it knows nothing of."""
    parts = [label.split(", ") for label in labels]
    return tuple(", ".join(part for part in each if any(part not in other for other in parts)) for each in parts)


def _bundles(models: list[Stage], spec: PipelineSpec) -> Iterator[Bundle]:
    """The trainings, those that can be stacked together; in the order of the spec."""
    groups: dict[str, list[Stage]] = {}
    for model in models:
        groups.setdefault(_shape_of(model, spec), []).append(model)
    for group in groups.values():
        if len(group) < SMALLEST_BUNDLE:
            yield from ((model,) for model in group)
            continue
        yield from _cut(group)


def _cut(stages: list[Stage]) -> Iterator[Bundle]:
    """Stages in bundles that are not too large."""
    for start in range(0, len(stages), LARGEST_BUNDLE):
        yield tuple(stages[start : start + LARGEST_BUNDLE])


def _shape_of(model: Stage, spec: PipelineSpec) -> str:
    """What trainings have in common that can be stacked; stacked matrices pay on any device, convolutions do not."""
    recipe = model.recipe
    if not isinstance(recipe, Distill | TrainControl) or spec.fuse == "off" or not recipe.model.stackable:
        return model.key
    if recipe.training.patience is not None:  # Each would end at an epoch of its own.
        return model.key
    apart = {"seed", "learning_rate", "label_smoothing"}
    return recipe.model.model_dump_json() + recipe.training.model_dump_json(exclude=apart)
