"""What a spec says of a student, and of the candidates where some of its fields are grids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import LOSSES, is_reference
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.grid import has_grid, points
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import Name, Options, SpecPart, unknown_name
from distill_queue.shared.spec.training import TrainingSpec

_FIELDS_OF_LOSSES = {
    "target_weight": "dkd",
    "others_weight": "dkd",
    "inter_weight": "dist",
    "intra_weight": "dist",
}


class DistillationSpec(SpecPart):
    """`alpha * soft loss at temperature T + (1 - alpha) * cross-entropy` (Hinton et al. 2015)."""

    loss: str = "kd"
    """The soft loss: one that `distill losses` lists, or `package.module:callable`."""
    options: Options = Field(default={})
    """Keyword arguments of a loss of the user's own."""
    version: str = "1"
    """Of a loss of the user's own, part of the key: change it when its code changes."""
    temperature: float = Field(default=4.0, gt=0.0, le=1e4)
    """What both logits are divided by before the softmax."""
    alpha: float = Field(default=0.9, ge=0.0, le=1.0)
    """Share of the soft loss; the rest is cross-entropy with the labels."""
    standardise: bool = False
    """Bring both logits to mean 0 and deviation 1 before the soft loss (Sun et al. 2024)."""
    target_weight: float = Field(default=1.0, ge=0.0, le=1e3)
    """Of `dkd` only: weight of the target's part (Zhao et al. 2022, alpha)."""
    others_weight: float = Field(default=8.0, ge=0.0, le=1e3)
    """Of `dkd` only: weight of the other classes' part (beta)."""
    inter_weight: float = Field(default=2.0, ge=0.0, le=1e3)
    """Of `dist` only: weight of the relations between classes (Huang et al. 2022, beta)."""
    intra_weight: float = Field(default=2.0, ge=0.0, le=1e3)
    """Of `dist` only: weight of the relations within classes (gamma)."""

    @model_validator(mode="after")
    def _must_be_known(self) -> Self:
        if self.loss not in LOSSES and not is_reference(self.loss):
            raise unknown_name("loss", "loss", self.loss, (*LOSSES, "package.module:callable"))
        own, fields = is_reference(self.loss), type(self).__pydantic_fields__
        for field, of_own in (("standardise", False), ("options", True), ("version", True)):
            if of_own != own and getattr(self, field) != fields[field].default:
                whose = "a loss of your own" if of_own else "the losses of this system"
                raise PydanticCustomError("options", "belongs to {whose} only", {"key": field, "whose": whose})
        for field, loss in _FIELDS_OF_LOSSES.items():
            if loss != self.loss and getattr(self, field) != fields[field].default:
                raise PydanticCustomError(
                    "options",
                    "belongs to loss '{owner}', not to '{loss}'",
                    {"key": field, "owner": loss, "loss": self.loss},
                )
        return self


class StudentSpec(SpecPart):
    """A model that learns from the teacher's soft labels."""

    name: Name
    """What the tables call it."""
    model: ModelSpec
    """Its network."""
    distillation: DistillationSpec = DistillationSpec()
    """The loss that it learns by."""
    training: TrainingSpec = TrainingSpec()
    """How it and its control are trained."""
    seeds: int = Field(default=1, ge=1, le=100)
    """How many seeds, from the training's own on, it and its control are trained with."""

    @model_validator(mode="after")
    def _sees_the_views_of_the_soft_labels(self) -> Self:
        if not self.training.augmentation.changes_nothing:
            raise PydanticCustomError(
                "options",
                "a student sees the views of the soft labels: set soft_labels.augmentation instead",
                {"key": "training.augmentation"},
            )
        return self


class GridPoint(SpecPart):
    """One of a student's candidates, and what tells it from the others."""

    label: str
    """What tells it from the others, as `temperature 2`."""
    student: StudentSpec
    """The student with these values."""


class StudentGrid(SpecPart):
    """A student with `{grid: [...]}` in some fields: the candidate that is best on held-out samples is scored."""

    name: Name
    """What the tables call it."""
    points: Annotated[tuple[GridPoint, ...], Field(strict=False, min_length=1)]
    """Its candidates."""

    @model_validator(mode="after")
    def _points_are_of_one_student(self) -> Self:
        runs = {(point.student.name, point.student.seeds, point.student.training.seed) for point in self.points}
        if len({point.label for point in self.points}) < len(self.points) or len(runs) > 1:
            raise PydanticCustomError("students", "the points differ in their labels, not in name or seeds", {})
        return self


def _expanded(value: Any) -> Any:
    """The candidates of a student that has a grid; any other value as it is."""
    if not has_grid(value):
        return value
    seed = value["training"].get("seed") if isinstance(value.get("training"), dict) else None
    for field, given in (("name", value.get("name")), ("seeds", value.get("seeds")), ("training.seed", seed)):
        if has_grid({field: given}):
            raise PydanticCustomError("students", "'{key}' cannot be a grid", {"key": field})
    try:
        candidates = points(value)
    except ValueError as error:
        raise PydanticCustomError("students", "{problem}", {"problem": str(error)}) from None
    validated = []
    for label, candidate in candidates:
        try:
            validated.append(GridPoint(label=label, student=StudentSpec.model_validate(candidate)))
        except ValidationError as error:
            place, words = next(SpecFile(Path(), candidate, {}).mistakes(error))
            problem = f"with {label}: {'.'.join(map(str, place))}: {words}"
            raise PydanticCustomError("students", "{problem}", {"problem": problem}) from None
    return StudentGrid(name=value["name"], points=tuple(validated))


def _student_kind(value: Any) -> str:
    return "grid" if isinstance(value, StudentGrid) or (isinstance(value, dict) and "points" in value) else "student"


AnyStudent = Annotated[
    Annotated[StudentSpec, Tag("student")] | Annotated[StudentGrid, Tag("grid")],
    Discriminator(_student_kind),
    BeforeValidator(_expanded),
]
