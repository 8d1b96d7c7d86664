"""Recipes: what each kind of stage does, as far as its result depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from distill_queue.shared.catalog import STAGE_KINDS, Dtype, Normalise, is_reference
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import Name, SpecPart
from distill_queue.shared.spec.training import AugmentationSpec, TrainingSpec

if TYPE_CHECKING:
    from distill_queue.shared.soft_labels.encoding import Encoding


class PrepareData(SpecPart):
    """Pack a data set into arrays."""

    kind: Literal["prepare_data"] = "prepare_data"
    dataset: DatasetSpec


class TrainTeacher(SpecPart):
    """Train the teacher on the data set's labels."""

    kind: Literal["train_teacher"] = "train_teacher"
    model: ModelSpec
    training: TrainingSpec


class LoadTeacher(SpecPart):
    """Take the teacher's weights from a file that the client put into the store."""

    kind: Literal["load_teacher"] = "load_teacher"
    model: ModelSpec
    #: What it was trained on; left out where nothing is said, so that workers of earlier versions read it.
    normalise: Normalise = Field(default="data", exclude_if=lambda normalise: normalise == "data")


class JoinTeachers(SpecPart):
    """Make one model of several teachers, whose outputs are averaged."""

    kind: Literal["join_teachers"] = "join_teachers"
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    weights: Annotated[tuple[float, ...], Field(strict=False)]
    average: Literal["probabilities", "logits"]
    #: As of `LoadTeacher`, of each; none where all are as all models here.
    normalise: Annotated[tuple[Normalise, ...], Field(strict=False, exclude_if=lambda normalise: not normalise)] = ()

    def normalise_of(self, place: int) -> Normalise:
        """What the teacher at a place was trained on."""
        return self.normalise[place] if self.normalise else "data"


class Labels(SpecPart):
    """What soft labels are of, and how they are stored."""

    dtype: Dtype
    top_k: int | None = None
    views: int = 1
    augmentation: AugmentationSpec = AugmentationSpec()

    @property
    def encoding(self) -> Encoding:
        """How a row is stored."""
        from distill_queue.shared.soft_labels.encoding import (
            Encoding,  # With numpy, which a client that lists pipelines need not load.
        )

        return Encoding(dtype=self.dtype, top_k=self.top_k)


class SoftLabelling(Labels):
    """Compute the teacher's logits on the views of the transfer set."""

    kind: Literal["soft_labels"] = "soft_labels"


class ImportSoftLabels(Labels):
    """Take soft labels from a file that the client put into the store."""

    kind: Literal["import_soft_labels"] = "import_soft_labels"


class Distill(SpecPart):
    """Train a student on soft labels."""

    kind: Literal["distill"] = "distill"
    model: ModelSpec
    distillation: DistillationSpec
    training: TrainingSpec


class TrainControl(SpecPart):
    """Train a student's control: the same student, on the same views, without the teacher."""

    kind: Literal["train_control"] = "train_control"
    model: ModelSpec
    training: TrainingSpec
    views: int = 1
    augmentation: AugmentationSpec = AugmentationSpec()


class ChooseStudent(SpecPart):
    """Find the point of a grid whose models are best on held-out samples, over all seeds."""

    kind: Literal["choose"] = "choose"
    #: What tells the points apart, and their models.
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    seeds: Annotated[tuple[int, ...], Field(strict=False)]


Counting = Literal["layers", "operators"]


class Evaluate(SpecPart):
    """Score a model on the test set: a given one, or the one that was chosen from a grid."""

    kind: Literal["evaluate"] = "evaluate"
    #: Of a chosen student, the run.
    seed: int | None = None
    #: How multiply-adds are counted: by the layers of built-in models, which are few, or by what torch computes. It
    #: only marks the key: a worker goes by the model itself, as recipes of earlier versions say nothing.
    counting: Counting = Field(default="layers", exclude_if=lambda counting: counting == "layers")


class StudentRuns(SpecPart):
    """A student's runs, one a seed; `role` and `control` name a run's evaluations among a report's inputs."""

    name: Name
    seeds: Annotated[tuple[int, ...], Field(strict=False)]

    def role(self, seed: int) -> str:
        """The student's evaluation."""
        return self.name if len(self.seeds) == 1 else f"{self.name}, seed {seed}"

    def control(self, seed: int) -> str:
        """Its control's evaluation."""
        return f"{self.role(seed)}/control"


class WriteReport(SpecPart):
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
    | ImportSoftLabels
    | Distill
    | TrainControl
    | ChooseStudent
    | Evaluate
    | WriteReport,
    Field(discriminator="kind"),
]


def models_of(recipe: Recipe) -> tuple[ModelSpec, ...]:
    """The models that a stage trains, loads, joins or chooses from."""
    match recipe:
        case TrainTeacher(model=model) | LoadTeacher(model=model) | Distill(model=model) | TrainControl(model=model):
            return (model,)
        case JoinTeachers(models=models) | ChooseStudent(models=models):
            return models
    return ()


#: Raised by one when a stage's code changes its result, so that old artifacts are not taken for new ones.
RECIPE_VERSIONS = dict.fromkeys((*STAGE_KINDS, "checkpoint", "label_file"), 1) | {
    "prepare_data": 3,
    "train_teacher": 3,
    "soft_labels": 2,
    "distill": 3,
    "train_control": 3,
    "evaluate": 2,
    "report": 2,
}


def revisions(recipe: Recipe) -> list[str]:
    """The changes of a kind's code that concern this recipe: their names are part of its key, and of no other's.

    A change that concerns all recipes of a kind raises the kind's version.
    """
    return [name for name, concerns in _REVISIONS.items() if concerns(recipe)]


#: Names of changes that concern some recipes only, and which.
_REVISIONS: dict[str, Callable[[Recipe], bool]] = {
    # A constant channel is divided by its value, no more by a millionth. Ours have none.
    "constant channels": lambda recipe: isinstance(recipe, PrepareData) and is_reference(recipe.dataset.name),
    # A training ended one epoch later.
    "patience": lambda recipe: isinstance(recipe, Training) and recipe.training.patience is not None,
}


def ingredients(value: Any) -> Any:
    """A recipe as plain values, without what is as it always was: a new option with a default changes no old key.

    Whoever changes a default raises the recipe's version.
    """
    if isinstance(value, SpecPart):
        fields = type(value).model_fields
        return {
            name: ingredients(field)
            for name, field in value
            if name != "kind" and (name == "name" or field != fields[name].get_default())
        }
    if isinstance(value, tuple):
        return [ingredients(item) for item in value]
    if isinstance(value, dict):
        return {name: ingredients(item) for name, item in value.items()}
    return value
