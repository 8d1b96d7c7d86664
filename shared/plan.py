"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.catalog import KINDS
from shared.errors import InvalidSpec
from shared.spec import (
    AugmentationSpec,
    DatasetSpec,
    Device,
    DistillationSpec,
    MlpSpec,
    ModelSpec,
    Name,
    Part,
    PipelineSpec,
    StudentGrid,
    StudentSpec,
    TrainingSpec,
)

#: Version of the message that carries a stage; a worker refuses what is newer than itself.
STAGE_FORMAT = 3
#: Seconds after its time limit at which a stage that did not end by itself is killed.
HARD_LIMIT_SECONDS = 20.0
#: Most stages that one task does together.
LARGEST_BUNDLE = 64
#: Fewest trainings that are stacked: two take as long together as one after the other (measured on 2 cores).
SMALLEST_BUNDLE = 3

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PrepareData(Part):
    """Pack a data set into arrays."""

    kind: Literal["prepare_data"] = "prepare_data"
    dataset: DatasetSpec


class TrainTeacher(Part):
    """Train the teacher on the data set's labels."""

    kind: Literal["train_teacher"] = "train_teacher"
    model: ModelSpec
    training: TrainingSpec


class LoadTeacher(Part):
    """Take the teacher's weights from a file that the client put into the store."""

    kind: Literal["load_teacher"] = "load_teacher"
    model: ModelSpec


class JoinTeachers(Part):
    """Make one model of several teachers, whose outputs are averaged."""

    kind: Literal["join_teachers"] = "join_teachers"
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    weights: Annotated[tuple[float, ...], Field(strict=False)]
    average: Literal["probabilities", "logits"]


class SoftLabelling(Part):
    """Compute the teacher's logits on the views of the transfer set."""

    kind: Literal["soft_labels"] = "soft_labels"
    dtype: Literal["float16", "float32"]
    views: int = 1
    augmentation: AugmentationSpec = AugmentationSpec()


class Distill(Part):
    """Train a student on soft labels."""

    kind: Literal["distill"] = "distill"
    model: ModelSpec
    distillation: DistillationSpec
    training: TrainingSpec


class TrainControl(Part):
    """Train a student's control: the same student, on the same views, without the teacher."""

    kind: Literal["train_control"] = "train_control"
    model: ModelSpec
    training: TrainingSpec
    views: int = 1
    augmentation: AugmentationSpec = AugmentationSpec()


class ChooseStudent(Part):
    """Find the point of a grid whose models are best on held-out samples, over all seeds."""

    kind: Literal["choose"] = "choose"
    #: What tells the points apart, and their models.
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    seeds: Annotated[tuple[int, ...], Field(strict=False)]


class Evaluate(Part):
    """Score a model on the test set: a given one, or the one that was chosen from a grid."""

    kind: Literal["evaluate"] = "evaluate"
    #: Of a chosen student, the run.
    seed: int | None = None


class StudentRuns(Part):
    """A student's runs, one a seed; `role` and `control` name a run's evaluations among a report's inputs."""

    name: Name
    seeds: Annotated[tuple[int, ...], Field(strict=False)]

    def role(self, seed: int) -> str:
        """The student's evaluation."""
        return self.name if len(self.seeds) == 1 else f"{self.name}, seed {seed}"

    def control(self, seed: int) -> str:
        """Its control's evaluation."""
        return f"{self.role(seed)}/control"


class WriteReport(Part):
    """Compare the students with their controls and the teacher."""

    kind: Literal["report"] = "report"
    students: Annotated[tuple[StudentRuns, ...], Field(strict=False)]
    #: How many teachers were joined; 0 where there was one.
    teachers: int = 0


#: Recipes whose result is a trained model.
Training = TrainTeacher | Distill | TrainControl

Recipe = Annotated[
    PrepareData
    | TrainTeacher
    | LoadTeacher
    | JoinTeachers
    | SoftLabelling
    | Distill
    | TrainControl
    | ChooseStudent
    | Evaluate
    | WriteReport,
    Field(discriminator="kind"),
]

#: Raised by one when a stage's code changes its result, so that old artifacts are not taken for new ones.
RECIPE_VERSIONS = dict.fromkeys((*KINDS, "checkpoint"), 1) | {
    "prepare_data": 3,
    "train_teacher": 3,
    "distill": 3,
    "train_control": 3,
    "report": 2,
}


class ArtifactRef(BaseModel):
    """Where an artifact lives in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z_]+$")
    key: Key

    @property
    def short_key(self) -> str:
        """The first eight characters of the key, for people."""
        return self.key[:8]


class Stage(BaseModel):
    """One unit of work: what a Celery task receives, and all that its result depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = STAGE_FORMAT
    key: Key
    title: str
    recipe: Recipe
    inputs: dict[str, ArtifactRef]

    @classmethod
    def of(cls, title: str, recipe: Recipe, /, **inputs: ArtifactRef) -> Self:
        """The stage of a recipe and its inputs, with its key."""
        key = stage_key(recipe.kind, _ingredients(recipe), inputs)
        return cls(key=key, title=title, recipe=recipe, inputs=inputs)

    @property
    def kind(self) -> str:
        """What is done, as in the task's name."""
        return self.recipe.kind

    @property
    def ref(self) -> ArtifactRef:
        """Where the stage's result lives."""
        return ArtifactRef(kind=self.kind, key=self.key)


#: Stages that one task does together.
Bundle = tuple[Stage, ...]


class Plan(BaseModel):
    """A pipeline's stages: those before the students in order, then branches side by side, then the end in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    device: Device
    #: Seconds a stage of a kind may take at one go; no part of any key.
    time_limits: dict[str, float] = {}
    #: The data; then, in order, all that comes between the teachers and the students.
    trunk: tuple[Stage, ...]
    #: Several teachers, made side by side after the first stage of the trunk; a single one is part of the trunk.
    teachers: tuple[Stage, ...] = ()
    branches: tuple[tuple[Bundle, ...], ...]
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
        teacher = joined or teachers[0]
        labels = Stage.of("soft labels", _labelling(spec), dataset=data.ref, teacher=teacher.ref)
        students = [_Candidates.of(student, spec, data, labels) for student in spec.students]
        graded = _Graded(data, teacher)
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
            time_limits=spec.time_limits,
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
    def _before(self) -> tuple[Bundle, ...]:
        """What comes before the branches, step by step."""
        first, *others = self.trunk
        return ((first,), *((self.teachers,) if self.teachers else ()), *((stage,) for stage in others))

    def blocked_by(self, failed: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `failed` have failed.

        They are all that come after a failed one, whether they need it or not: its task ends the chain that it is in.
        """
        blocked: set[str] = set()
        for branch in self.branches:
            for before, bundle in pairwise((*self._before, *branch, *self.tail, (self.report,))):
                if any(stage.key in failed | blocked for stage in before):
                    blocked |= {stage.key for stage in bundle}
        return blocked - failed


def bundle_ref(bundle: Bundle) -> ArtifactRef:
    """Where a bundle's unfinished work lives: that of a single stage, where the stage's own does."""
    if len(bundle) == 1:
        return bundle[0].ref
    keys = ",".join(sorted(stage.key for stage in bundle))
    return ArtifactRef(kind="bundle", key=hashlib.sha256(keys.encode()).hexdigest())


def stage_key(kind: str, recipe: Any, inputs: dict[str, ArtifactRef]) -> str:
    """SHA-256 of the canonical JSON of all that a result depends on."""
    ingredients = {
        "kind": kind,
        "version": RECIPE_VERSIONS[kind],
        "recipe": recipe,
        "inputs": {role: ref.key for role, ref in inputs.items()},
    }
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def checkpoint_ref(path: Path) -> ArtifactRef:
    """Where the weights in a file live in the store: addressed by their content.

    Raises:
        InvalidSpec: the file cannot be read.

    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidSpec(f"teacher.checkpoint: {path}: {error.strerror or error}") from error
    return ArtifactRef(kind="checkpoint", key=stage_key("checkpoint", {"sha256": digest}, {}))


def _teachers(spec: PipelineSpec, data: Stage) -> tuple[Stage, ...]:
    found = []
    for number, teacher in enumerate(spec.all_teachers, start=1):
        name = "teacher" if spec.teacher else f"teacher {number}"
        if teacher.checkpoint is not None:
            weights = checkpoint_ref(Path(teacher.checkpoint))
            load = LoadTeacher(model=teacher.model)
            found.append(Stage.of(f"load {name}", load, dataset=data.ref, checkpoint=weights))
        else:
            train = TrainTeacher(model=teacher.model, training=teacher.training)
            found.append(Stage.of(f"train {name}", train, dataset=data.ref))
    return tuple(found)


def _joined(spec: PipelineSpec, data: Stage, teachers: tuple[Stage, ...]) -> Stage | None:
    """Several teachers as one; None where there is one."""
    if spec.teacher:
        return None
    models = tuple(teacher.model for teacher in spec.teachers)
    weights = tuple(teacher.weight for teacher in spec.teachers)
    refs = {f"teacher {number}": teacher.ref for number, teacher in enumerate(teachers, start=1)}
    recipe = JoinTeachers(models=models, weights=weights, average=spec.average)
    return Stage.of("join teachers", recipe, dataset=data.ref, **refs)


def _ingredients(value: Any) -> Any:
    """A recipe as plain values, without what is as it always was: a new option with a default changes no old key.

    Whoever changes a default raises the recipe's version.
    """
    if isinstance(value, Part):
        fields = type(value).model_fields
        return {
            name: _ingredients(field)
            for name, field in value
            if name != "kind" and (name == "name" or field != fields[name].get_default())
        }
    if isinstance(value, tuple):
        return [_ingredients(item) for item in value]
    return value


def _labelling(spec: PipelineSpec) -> SoftLabelling:
    labels = spec.soft_labels
    return SoftLabelling(dtype=labels.dtype, views=labels.views, augmentation=labels.augmentation)


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

    def __init__(self, data: Stage, teacher: Stage) -> None:
        self._data, self._teacher = data, teacher
        #: Of given models, by the model's key.
        self.evaluations: dict[str, Stage] = {}
        self.choices: dict[str, Stage] = {}
        #: Of chosen models, by their own key.
        self.of_chosen: dict[str, Stage] = {}
        #: The report's inputs, by role.
        self.scores: dict[str, ArtifactRef] = {}

    def add(self, role: str, model: Stage) -> None:
        """Have a model scored for a role."""
        inputs = {"dataset": self._data.ref, "model": model.ref, "teacher": self._teacher.ref}
        evaluation = self.evaluations.setdefault(model.key, Stage.of(f"evaluate {role}", Evaluate(), **inputs))
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
            inputs = {"dataset": self._data.ref, "model": choice.ref, "teacher": self._teacher.ref}
            evaluation = Stage.of(f"evaluate {role(seed)}", Evaluate(seed=seed), **inputs)
            self.scores[role(seed)] = self.of_chosen.setdefault(evaluation.key, evaluation).ref

    def branch(self, bundle: Bundle) -> tuple[Bundle, ...]:
        """Trainings, and the evaluations of those that are not chosen from."""
        evaluations = tuple(self.evaluations[model.key] for model in bundle if model.key in self.evaluations)
        return (bundle, evaluations) if evaluations else (bundle,)


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
    if not isinstance(recipe, Distill | TrainControl) or spec.fuse == "off" or not isinstance(recipe.model, MlpSpec):
        return model.key
    if recipe.training.patience is not None:  # Each would end at an epoch of its own.
        return model.key
    apart = {"seed", "learning_rate", "label_smoothing"}
    return recipe.model.model_dump_json() + recipe.training.model_dump_json(exclude=apart)
