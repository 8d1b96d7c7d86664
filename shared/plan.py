"""The plan of a pipeline: every stage, its key and its inputs, known before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.catalog import KINDS
from shared.errors import InvalidSpec
from shared.spec import (
    DatasetSpec,
    Device,
    DistillationSpec,
    ModelSpec,
    Name,
    Part,
    PipelineSpec,
    StudentSpec,
    TrainingSpec,
)

#: Version of the message that carries a stage; a worker refuses what is newer than itself.
STAGE_FORMAT = 1
#: Seconds after its time limit at which a stage that did not end by itself is killed.
HARD_LIMIT_SECONDS = 20.0

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
    """Compute the teacher's logits on the transfer set."""

    kind: Literal["soft_labels"] = "soft_labels"
    dtype: Literal["float16", "float32"]


class Distill(Part):
    """Train a student on soft labels."""

    kind: Literal["distill"] = "distill"
    model: ModelSpec
    distillation: DistillationSpec
    training: TrainingSpec


class TrainControl(Part):
    """Train a student's control: the same student without the teacher."""

    kind: Literal["train_control"] = "train_control"
    model: ModelSpec
    training: TrainingSpec


class Evaluate(Part):
    """Score a model on the test set."""

    kind: Literal["evaluate"] = "evaluate"


class WriteReport(Part):
    """Compare the students with their controls and the teacher; inputs are `<student>` and `<student>/control`."""

    kind: Literal["report"] = "report"
    students: Annotated[tuple[Name, ...], Field(strict=False)]


Recipe = Annotated[
    PrepareData | TrainTeacher | LoadTeacher | SoftLabelling | Distill | TrainControl | Evaluate | WriteReport,
    Field(discriminator="kind"),
]

#: Raised by one when a stage's code changes its result, so that old artifacts are not taken for new ones.
RECIPE_VERSIONS = dict.fromkeys((*KINDS, "checkpoint"), 1) | {"train_teacher": 2, "distill": 2, "train_control": 2}


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
        key = stage_key(recipe.kind, recipe.model_dump(mode="json", exclude={"kind"}), inputs)
        return cls(key=key, title=title, recipe=recipe, inputs=inputs)

    @property
    def kind(self) -> str:
        """What is done, as in the task's name."""
        return self.recipe.kind

    @property
    def ref(self) -> ArtifactRef:
        """Where the stage's result lives."""
        return ArtifactRef(kind=self.kind, key=self.key)


class Plan(BaseModel):
    """A pipeline's stages: a trunk in order, branches that run side by side, and the report after all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    device: Device
    #: Seconds a stage of a kind may take at one go; no part of any key.
    time_limits: dict[str, float] = {}
    trunk: tuple[Stage, ...]
    branches: tuple[tuple[Stage, ...], ...]
    report: Stage

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        """The plan of a spec; reads the teacher's checkpoint, if there is one, for its hash.

        Raises:
            InvalidSpec: the checkpoint cannot be read.

        """
        data = Stage.of(f"prepare {spec.dataset.name}", PrepareData(dataset=spec.dataset))
        teacher = _teacher(spec, data)
        labels = Stage.of(
            "soft labels", SoftLabelling(dtype=spec.soft_labels.dtype), dataset=data.ref, teacher=teacher.ref
        )
        branches: dict[str, tuple[Stage, ...]] = {teacher.key: (_evaluation("teacher", data, teacher, teacher),)}
        scores = {"teacher": branches[teacher.key][-1].ref}
        for student in spec.students:
            for role, model in _models_of(student, spec, data, labels):
                branch = branches.setdefault(model.key, (model, _evaluation(role, data, model, teacher)))
                scores[role] = branch[-1].ref
        names = tuple(student.name for student in spec.students)
        report = Stage.of("report", WriteReport(students=names), **scores)
        return cls(
            name=spec.name,
            device=spec.device,
            time_limits=spec.time_limits,
            trunk=(data, teacher, labels),
            branches=tuple(branches.values()),
            report=report,
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage once, each after its inputs."""
        return (*self.trunk, *(stage for branch in self.branches for stage in branch), self.report)

    def blocked_by(self, keys: set[str]) -> set[str]:
        """Keys of the stages that can never start when those of `keys` have failed."""
        blocked = set(keys)
        for stage in self.stages:
            if any(ref.key in blocked for ref in stage.inputs.values()):
                blocked.add(stage.key)
        return blocked - keys


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


def _models_of(student: StudentSpec, spec: PipelineSpec, data: Stage, labels: Stage) -> Iterator[tuple[str, Stage]]:
    recipe = Distill(model=student.model, distillation=student.distillation, training=student.training)
    yield student.name, Stage.of(f"distill {student.name}", recipe, dataset=data.ref, soft_labels=labels.ref)
    if spec.evaluation.control:
        control = TrainControl(model=student.model, training=student.training)
        yield f"{student.name}/control", Stage.of(f"train {student.name}/control", control, dataset=data.ref)


def _evaluation(role: str, data: Stage, model: Stage, teacher: Stage) -> Stage:
    return Stage.of(f"evaluate {role}", Evaluate(), dataset=data.ref, model=model.ref, teacher=teacher.ref)
