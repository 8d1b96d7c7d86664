"""What a spec says of a teacher: trained, given as weights, or known by its labels only."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.classes import Classes
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.sources.normalise import NormaliseInputs
from distill_queue.shared.spec.start import require_one_start
from distill_queue.shared.spec.training import TrainingSpec, require_parameters
from distill_queue.shared.spec.weights import AnyWeights


class TeacherSpec(SpecPart):
    """The model that teaches: trained here, or given as a file of its weights."""

    model: ModelSpec
    """The network that teaches."""
    weights: Annotated[AnyWeights | None, Field(exclude_if=lambda weights: weights is None)] = None
    """Weights that its training starts from, as `{file: PATH}`; with `checkpoint` it is not trained at all."""
    training: TrainingSpec = TrainingSpec()
    """How the network is trained, where no weights are given."""
    checkpoint: AnyWeights | None = None
    """Path of the weights, relative to the spec's own folder; or `{file: PATH, part: NAME}` where it holds several."""
    seeds: int = Field(default=1, ge=1, le=10)
    """How many teachers that differ in their seeds, from the training's own on, are averaged."""
    normalise: NormaliseInputs = "data"
    """What given weights were trained on: `data`, `none`, `unit`, `imagenet`, or `{mean: […], std: […]}`."""
    classes: Annotated[Classes | None, Field(exclude_if=lambda classes: classes is None)] = None
    """Names of a given teacher's classes in the order of its outputs, or a file of them; the data's are chosen."""

    @model_validator(mode="after")
    def _trained_or_given(self) -> Self:
        if self.checkpoint is None and self.normalise != "data":
            raise PydanticCustomError(
                "teacher",
                "a teacher that is trained here takes what all models here take: 'normalise' is for a checkpoint",
                {"key": "normalise"},
            )
        if self.checkpoint is None and self.classes is not None:
            raise PydanticCustomError(
                "teacher",
                "a teacher that is trained here knows the data's classes: 'classes' is for a checkpoint",
                {"key": "classes"},
            )
        if self.checkpoint is not None and "training" in self.model_fields_set:
            raise PydanticCustomError(
                "teacher", "a teacher with a checkpoint is not trained: remove one of the two", {"key": "training"}
            )
        if self.checkpoint is not None and self.seeds > 1:
            raise PydanticCustomError("teacher", "a teacher with a checkpoint has no seeds", {"key": "seeds"})
        if self.checkpoint is not None and self.weights is not None:
            raise PydanticCustomError(
                "teacher", "a teacher with a checkpoint is not trained: remove one of the two", {"key": "weights"}
            )
        if self.training.keep_state:
            raise PydanticCustomError(
                "teacher", "only a student's training is continued: leave it out", {"key": "training.keep_state"}
            )
        require_parameters(self.model, self.training)
        require_one_start(self.model, self.weights)
        return self

    @property
    def of_each_seed(self) -> tuple[Self, ...]:
        """The teacher with each of its seeds, as one would write them out."""
        if self.seeds == 1:
            return (self,)
        trainings = (
            self.training.model_copy(update={"seed": self.training.seed + number}) for number in range(self.seeds)
        )
        return tuple(self.model_copy(update={"training": training, "seeds": 1}) for training in trainings)


class LabelTeacherSpec(SpecPart):
    """A teacher that is known by its soft labels only, as one that cannot run here, or may not be passed on."""

    soft_labels: str
    """Path of an `.npz` or `.safetensors` file with its logits, relative to the spec's own folder."""


def _teacher_kind(value: Any) -> str:
    given = isinstance(value, LabelTeacherSpec) or (isinstance(value, dict) and "soft_labels" in value)
    return "of labels" if given else "of a model"


OneTeacher = Annotated[
    Annotated[TeacherSpec, Tag("of a model")] | Annotated[LabelTeacherSpec, Tag("of labels")],
    Discriminator(_teacher_kind),
]


class WeightedTeacherSpec(TeacherSpec):
    """One of several teachers."""

    weight: float = Field(default=1.0, gt=0.0, le=1e6)
    """This teacher's weight in the average, relative to the others' weights."""
