"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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
    StudentSpec,
    TrainingSpec,
)

#: Version of the message that carries a stage; a worker refuses what is newer than itself.
STAGE_FORMAT = 2
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


class Evaluate(Part):
    """Score a model on the test set."""

    kind: Literal["evaluate"] = "evaluate"


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


#: Recipes whose result is a trained model.
Training = TrainTeacher | Distill | TrainControl

Recipe = Annotated[
    PrepareData | TrainTeacher | LoadTeacher | SoftLabelling | Distill | TrainControl | Evaluate | WriteReport,
    Field(discriminator="kind"),
]

#: Raised by one when a stage's code changes its result, so that old artifacts are not taken for new ones.
RECIPE_VERSIONS = dict.fromkeys((*KINDS, "checkpoint"), 1) | {
    "prepare_data": 2,
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
    def of(cls, title: str, recipe: Recipe, **inputs: ArtifactRef) -> Self:
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
    """A pipeline's stages: a trunk in order, branches of bundles that run side by side, and the report after all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    device: Device
    #: Seconds a stage of a kind may take at one go; no part of any key.
    time_limits: dict[str, float] = {}
    trunk: tuple[Stage, ...]
    branches: tuple[tuple[Bundle, ...], ...]
    report: Stage

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        """The plan of a spec; reads the teacher's checkpoint, if there is one, for its hash.

        Raises:
            InvalidSpec: the checkpoint cannot be read.

        """
        data = Stage.of(f"prepare {spec.dataset.name}", PrepareData(dataset=spec.dataset))
        teacher = _teacher(spec, data)
        labels = Stage.of("soft labels", _labelling(spec), dataset=data.ref, teacher=teacher.ref)
        evaluations = {teacher.key: _evaluation("teacher", data, teacher, teacher)}
        scores = {"teacher": evaluations[teacher.key].ref}
        models: dict[str, Stage] = {}
        runs = tuple(_runs_of(student) for student in spec.students)
        for student, run in zip(spec.students, runs, strict=True):
            for role, model in _models_of(student, run, spec, data, labels):
                models.setdefault(model.key, model)
                evaluations.setdefault(model.key, _evaluation(role, data, model, teacher))
                scores[role] = evaluations[model.key].ref
        bundles = _bundles(list(models.values()), spec)
        return cls(
            name=spec.name,
            device=spec.device,
            time_limits=spec.time_limits,
            trunk=(data, teacher, labels),
            branches=(
                ((evaluations[teacher.key],),),
                *((bundle, tuple(evaluations[model.key] for model in bundle)) for bundle in bundles),
            ),
            report=Stage.of("report", WriteReport(students=runs), **scores),
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage once, each after its inputs."""
        return (
            *self.trunk,
            *(stage for branch in self.branches for bundle in branch for stage in bundle),
            self.report,
        )

    def blocked_by(self, failed: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `failed` have failed.

        They are all that come after a failed one, whether they need it or not: its task ends the chain that it is in.
        """
        blocked: set[str] = set()
        trunk = [(stage,) for stage in self.trunk]
        for branch in self.branches:
            for before, bundle in pairwise((*trunk, *branch, (self.report,))):
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


def _teacher(spec: PipelineSpec, data: Stage) -> Stage:
    teacher = spec.teacher
    if teacher.checkpoint is not None:
        weights = checkpoint_ref(Path(teacher.checkpoint))
        return Stage.of("load teacher", LoadTeacher(model=teacher.model), dataset=data.ref, checkpoint=weights)
    recipe = TrainTeacher(model=teacher.model, training=teacher.training)
    return Stage.of("train teacher", recipe, dataset=data.ref)


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


def _runs_of(student: StudentSpec) -> StudentRuns:
    first = student.training.seed
    return StudentRuns(name=student.name, seeds=tuple(range(first, first + student.seeds)))


def _models_of(
    student: StudentSpec, runs: StudentRuns, spec: PipelineSpec, data: Stage, labels: Stage
) -> Iterator[tuple[str, Stage]]:
    """The role and the training of each of a student's runs and of its controls'."""
    views, augmentation = spec.soft_labels.views, spec.soft_labels.augmentation
    for seed in runs.seeds:
        training, role, control = (
            student.training.model_copy(update={"seed": seed}),
            runs.role(seed),
            runs.control(seed),
        )
        recipe = Distill(model=student.model, distillation=student.distillation, training=training)
        yield role, Stage.of(f"distill {role}", recipe, dataset=data.ref, soft_labels=labels.ref)
        if spec.evaluation.control:
            alone = TrainControl(model=student.model, training=training, views=views, augmentation=augmentation)
            yield control, Stage.of(f"train {control}", alone, dataset=data.ref)


def _bundles(models: list[Stage], spec: PipelineSpec) -> Iterator[Bundle]:
    """The trainings, those that can be stacked together; in the order of the spec."""
    groups: dict[str, list[Stage]] = {}
    for model in models:
        groups.setdefault(_shape_of(model, spec), []).append(model)
    for group in groups.values():
        if len(group) < SMALLEST_BUNDLE:
            yield from ((model,) for model in group)
            continue
        for start in range(0, len(group), LARGEST_BUNDLE):
            yield tuple(group[start : start + LARGEST_BUNDLE])


def _shape_of(model: Stage, spec: PipelineSpec) -> str:
    """What trainings have in common that can be stacked; stacked matrices pay on any device, convolutions do not."""
    recipe = model.recipe
    if not isinstance(recipe, Distill | TrainControl) or spec.fuse == "off" or not isinstance(recipe.model, MlpSpec):
        return model.key
    if recipe.training.patience is not None:  # Each would end at an epoch of its own.
        return model.key
    apart = {"seed", "learning_rate", "label_smoothing"}
    return recipe.model.model_dump_json() + recipe.training.model_dump_json(exclude=apart)


def _evaluation(role: str, data: Stage, model: Stage, teacher: Stage) -> Stage:
    return Stage.of(f"evaluate {role}", Evaluate(), dataset=data.ref, model=model.ref, teacher=teacher.ref)
