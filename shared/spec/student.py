"""What a spec says of a student, and of the candidates where some of its fields are grids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.export import ExportSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.grid import has_grid, points
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import Name, SpecPart
from distill_queue.shared.spec.start import ContinuedStudent, require_one_start
from distill_queue.shared.spec.training import TrainingSpec, require_parameters
from distill_queue.shared.spec.transfer import TransferSpec
from distill_queue.shared.spec.weights import AnyWeights


class StudentSpec(SpecPart):
    """A model that learns from a teacher's soft labels."""

    name: Name
    """What the tables call it."""
    model: ModelSpec
    """Its network."""
    teacher: Name | None = None
    """Another student of the spec, an assistant, that teaches this one; none: the pipeline's own teacher does."""
    distillation: DistillationSpec = DistillationSpec()
    """The loss that it learns by."""
    weights: Annotated[AnyWeights | None, Field(exclude_if=lambda weights: weights is None)] = None
    """Weights that it and its control start from, as `{file: PATH}`, in place of weights that are drawn."""
    continues: Annotated[ContinuedStudent | None, Field(exclude_if=lambda continues: continues is None)] = None
    """A student of an earlier pipeline that it is trained on from, as `{pipeline: ID, student: NAME}`."""
    training: TrainingSpec = TrainingSpec()
    """How it and its control are trained."""
    transfer: TransferSpec = Field(default=TransferSpec(), exclude_if=lambda transfer: transfer.changes_nothing)
    """The classes whose samples it and its control learn from; the teacher learns from all."""
    seeds: int = Field(default=1, ge=1, le=100)
    """How many seeds, from the training's own on, it and its control are trained with."""
    export: Annotated[ExportSpec | None, Field(exclude_if=lambda export: export is None)] = None
    """The files that its first seed's model is exported to, as `{formats: [onnx]}`."""

    @model_validator(mode="after")
    def _model_has_such_parameters(self) -> Self:
        require_parameters(self.model, self.training)
        require_one_start(self.model, self.weights, self.continues)
        return self

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

    @property
    def teacher(self) -> str | None:
        """The assistant that teaches it, if one does."""
        return self.points[0].student.teacher

    @property
    def seeds(self) -> int:
        """How many seeds each candidate is trained with."""
        return self.points[0].student.seeds

    @property
    def export(self) -> ExportSpec | None:
        """What the chosen candidate is exported to, if it is."""
        return self.points[0].student.export

    @model_validator(mode="after")
    def _points_are_of_one_student(self) -> Self:
        students = [point.student for point in self.points]
        runs = {(each.name, each.teacher, each.seeds, each.training.seed, each.export) for each in students}
        if len({point.label for point in self.points}) < len(self.points) or len(runs) > 1:
            raise PydanticCustomError(
                "students", "the points differ in their labels, not in name, teacher, seeds or export", {}
            )
        return self


def _expanded(value: Any) -> Any:
    """The candidates of a student that has a grid; any other value as it is."""
    if not has_grid(value):
        return value
    seed = value["training"].get("seed") if isinstance(value.get("training"), dict) else None
    given_once = {field: value.get(field) for field in ("name", "teacher", "seeds", "export")} | {"training.seed": seed}
    for field, given in given_once.items():
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
