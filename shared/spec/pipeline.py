"""What a user may write: the spec of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import WARNING_KINDS, WarningKind, did_you_mean
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.markup import Location
from distill_queue.shared.spec import agreement
from distill_queue.shared.spec.agreement import MOST_TEACHERS
from distill_queue.shared.spec.assistants import Students, generations
from distill_queue.shared.spec.budget import BudgetSpec
from distill_queue.shared.spec.dataset import DatasetSpec, dataset_reader
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.given_files import AnyTeacher, found_start, with_checkpoint, with_labels
from distill_queue.shared.spec.growth import must_not_grow
from distill_queue.shared.spec.part import Name, SpecPart, at_most
from distill_queue.shared.spec.ranges import refuse_ranges
from distill_queue.shared.spec.short_names import with_references
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.spec.student import AnyStudent, StudentGrid, StudentSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, OneTeacher, TeacherSpec, WeightedTeacherSpec
from distill_queue.shared.spec.training import TrainingSpec


def _must_be_a_known_kind(kind: Any) -> Any:
    if isinstance(kind, str) and kind not in WARNING_KINDS:
        raise PydanticCustomError(
            "unknown_name",
            "unknown kind of warning '{name}'{hint}",
            {"name": kind, "hint": did_you_mean(kind, WARNING_KINDS)},
        )
    return kind


AcceptedKind = Annotated[WarningKind, BeforeValidator(_must_be_a_known_kind)]
Device = Literal["any", "cpu", "gpu"]
Priority = Literal["low", "normal", "high"]


class EvaluationSpec(SpecPart):
    """What is scored, beside the teacher and the students."""

    control: bool = True
    """Also train each student without the teacher, to see what the teacher brought."""


class PipelineSpec(SpecPart):
    """One pipeline: a data set, a teacher or several, and the students that learn from it."""

    name: Name
    """What the pipeline is called; its id begins so."""
    dataset: DatasetSpec = NamedDatasetSpec(name="mnist_5k")
    """The data that all models are trained and tested on; `mnist_5k` where nothing is said."""
    teacher: OneTeacher | None = None
    """The teacher that the students learn from; either this or `teachers` is required."""
    teachers: Annotated[
        tuple[WeightedTeacherSpec, ...], Field(strict=False, max_length=MOST_TEACHERS), at_most(MOST_TEACHERS)
    ] = ()
    """In place of `teacher`: several, whose average the students learn from."""
    average: Literal["probabilities", "logits"] = "probabilities"
    """What of several teachers, or of an assistant's seeds, is averaged; averaged probabilities become logarithms."""
    soft_labels: SoftLabelsSpec = SoftLabelsSpec()
    """How the teacher's logits are stored, and of which views."""
    students: Annotated[
        tuple[AnyStudent, ...],
        Field(strict=False, min_length=1, max_length=1000),
        BeforeValidator(must_not_grow),
        at_most(1000),
    ]
    """At least one."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Whether there are controls."""
    budget: BudgetSpec | None = None
    """What a student may cost and how good it must be: the report names the best one that fits."""
    device: Device = "any"
    """The queue, and so the workers, that its stages go to."""
    priority: Priority = "normal"
    """Its stages come before or after what else waits in their queue; what runs already is not interrupted."""
    fuse: Literal["auto", "off"] = "auto"
    """`auto` trains students, controls and seeds of one shape together, as one stacked model."""
    time_limits: dict[str, Annotated[float, Field(ge=1.0, le=365 * 86_400.0)]] = Field(default={})
    """Seconds that a stage of a kind may take at one go, as `{train_teacher: 3600}`."""
    accept: Annotated[tuple[AcceptedKind, ...], Field(strict=False), at_most(100)] = ()
    """Kinds of warnings that are not to be shown, since the data are meant so, as `[unused_classes]`."""

    @property
    def all_teachers(self) -> tuple[TeacherSpec, ...]:
        """The teacher, or the teachers, with each of their seeds; none where there are only labels of one."""
        return tuple(each for teacher in self._given_teachers for each in teacher.of_each_seed)

    @property
    def _given_teachers(self) -> tuple[TeacherSpec, ...]:
        return self.teachers or ((self.teacher,) if isinstance(self.teacher, TeacherSpec) else ())

    @property
    def _trainings(self) -> Iterator[tuple[Location, TrainingSpec]]:
        """How each teacher and each candidate of the students is trained, with the place of these in the spec."""
        for index, teacher in enumerate(self._given_teachers):
            yield ("teachers", index) if self.teachers else ("teacher",), teacher.training
        for index, student in enumerate(self.students):
            points = [point.student for point in student.points] if isinstance(student, StudentGrid) else [student]
            yield from ((("students", index), each.training) for each in points)

    @property
    def generations(self) -> tuple[Students, ...]:
        """The students that learn from the pipeline's own teacher, then those that these teach, and so on."""
        return generations(self.students)

    @property
    def assistants(self) -> Students:
        """The students that teach others."""
        teaching = {student.teacher for student in self.students}
        return tuple(student for student in self.students if student.name in teaching)

    @property
    def candidates(self) -> Iterator[tuple[str, StudentSpec]]:
        """Each student, and each candidate of a grid, with its place in the spec."""
        for index, student in enumerate(self.students):
            specs = [point.student for point in student.points] if isinstance(student, StudentGrid) else [student]
            yield from ((f"students[{index}]", spec) for spec in specs)

    @property
    def choosing(self) -> str:
        """What chooses by held-out samples, as the beginning of a sentence; empty where nothing does."""
        for student in self.students:
            if isinstance(student, StudentGrid):
                return f"'{student.name}' has a grid, whose points are compared on held-out samples"
        trainings = (
            *(("teacher", teacher.training) for teacher in self.all_teachers),
            *((place, student.training) for place, student in self.candidates),
        )
        place = next((place for place, training in trainings if training.chooses), None)
        return f"{place}.training chooses by held-out samples" if place else ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        """Ask what a mistake is likely to be first."""
        dataset, soft_labels, candidates = self.dataset, self.soft_labels, tuple(self.candidates)
        augmentation = soft_labels.augmentation
        agreement.require_teachers(self.teacher, self.teachers, self.all_teachers)
        agreement.require_several(self.average, self.all_teachers, self.assistants)
        agreement.require_use_of_labels(self.teacher, soft_labels, self.assistants)
        agreement.require_rest(soft_labels.top_k, dataset)
        agreement.require_channels(self._teachers_by_place, dataset)
        agreement.require_names(self.students)
        agreement.require_labels(candidates, dataset, augmentation)
        agreement.require_draws(candidates, dataset, augmentation)
        agreement.require_classes(candidates, dataset)
        generations(self.students)
        agreement.require_held_out(self.choosing, dataset)
        of_teachers = {
            f"{place}.training": each.training.augmentation for place, each in self._teachers_by_place.items()
        }
        agreement.require_views({"soft_labels": augmentation} | of_teachers, dataset)
        agreement.require_kinds(tuple(self.time_limits))
        return self

    @property
    def _teachers_by_place(self) -> dict[str, TeacherSpec]:
        """The given teachers by their places in the spec."""
        return {
            f"teachers.{index}" if self.teachers else "teacher": each for index, each in enumerate(self._given_teachers)
        }

    @classmethod
    def load(cls, path: Path | str, changes: Sequence[str] = ()) -> Self:
        """The spec in a YAML, TOML or JSON file, with its checkpoint's path made absolute.

        Args:
            path: the file.
            changes: values to set first, each as `students.0.distillation.temperature=2`.

        Raises:
            InvalidSpec: the file cannot be read or used; one line a mistake, with file, line and field.
            InvalidSettings: a change is of another form, or names no place in the spec.

        """
        return cls.from_file(SpecFile.read(Path(path)).changed(changes))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The spec in a mapping with the words of a file; paths are relative to the working folder.

        Raises:
            InvalidSpec: the mapping cannot be used; one line a mistake, with its field.

        """
        return cls.from_file(SpecFile.of(values))

    @classmethod
    def from_file(cls, source: SpecFile) -> Self:
        """The spec in a file that is parsed already.

        Raises:
            InvalidSpec: as for `load`.

        """
        refuse_ranges(source)
        try:
            spec = cls.model_validate(with_references(source).data)
        except ValidationError as error:
            raise InvalidSpec(source.explain(error)) from None
        return spec.with_files(source)

    def with_files(self, source: SpecFile | None = None) -> Self:
        """The spec with the paths of given weights or labels made absolute, and their files looked at.

        Args:
            source: the file that it stands in; without one, paths are relative to the working folder.

        Raises:
            InvalidSpec: a file is missing, of another kind, or of another model or data set, as far as is known here;
                or a training has an option without effect.

        """
        source = source or SpecFile(Path("spec"), {}, {})
        for place, training in self._trainings:
            if found := training.without_effect:
                field, problem = found
                raise InvalidSpec(source.at((*place, "training", field), problem))

        def with_weights(teacher: AnyTeacher, place: Location) -> AnyTeacher:
            weights = found_start(teacher, self.dataset, source, place)
            return with_checkpoint(teacher, self.dataset, source, place).model_copy(update={"weights": weights})

        def started(student: StudentSpec, index: int) -> StudentSpec:
            weights = found_start(student, self.dataset, source, ("students", index))
            return student.model_copy(update={"weights": weights})

        only: OneTeacher | None = None
        if isinstance(self.teacher, LabelTeacherSpec):
            only = with_labels(self.teacher, self.dataset, self.soft_labels, source)
        elif self.teacher:
            only = with_weights(self.teacher, ("teacher",))
        several = tuple(with_weights(each, ("teachers", index)) for index, each in enumerate(self.teachers))
        return self.with_students(started).model_copy(update={"teacher": only, "teachers": several})

    def with_students(self, change: Callable[[StudentSpec, int], StudentSpec]) -> Self:
        """The spec with each student changed, and each candidate of a grid; by its number in the spec."""
        students = tuple(
            student.model_copy(
                update={
                    "points": tuple(p.model_copy(update={"student": change(p.student, index)}) for p in student.points)
                }
            )
            if isinstance(student, StudentGrid)
            else change(student, index)
            for index, student in enumerate(self.students)
        )
        return self.model_copy(update={"students": students})

    @staticmethod
    def seen_in(source: SpecFile) -> tuple[DatasetSpec, SoftLabelsSpec]:
        """The data set and the soft labels of the spec in a file, whose other parts may be missing.

        Raises:
            InvalidSpec: as for `load`.

        """
        source = with_references(source)
        parts: list[Any] = []
        readers: dict[str, Callable[[Any], Any]] = {
            "dataset": dataset_reader().validate_python,
            "soft_labels": SoftLabelsSpec.model_validate,
        }
        for name, read in readers.items():
            default = PipelineSpec.model_fields[name].get_default()
            try:
                parts.append(read(source.data.get(name, default)))
            except ValidationError as error:
                raise InvalidSpec(source.explain(error, (name,))) from None
        return parts[0], parts[1]
