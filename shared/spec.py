"""What a user may write: the pipeline's spec and its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from shared.catalog import DATASETS, KINDS, LOSSES, MODELS, RESNETS, did_you_mean, is_reference
from shared.checkpoint import classes_of
from shared.encoding import Dtype
from shared.errors import InvalidInput, InvalidSpec
from shared.grid import has_grid, points
from shared.label_file import LabelFile
from shared.spec_file import Location, SpecFile

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Options = dict[str, str | int | float | bool | None]
Device = Literal["any", "cpu", "gpu"]
Priority = Literal["low", "normal", "high"]


class Part(BaseModel):
    """A part of the spec: frozen, strictly typed, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key{hint}",
                        {"key": str(key), "hint": did_you_mean(str(key), cls.model_fields)},
                    )
        return data


class DatasetSpec(Part):
    """A data set by name, or `package.module:callable` for the user's own."""

    name: str
    #: Keyword arguments of the user's callable.
    options: Options = {}
    #: Part of the key: change it when the callable's data change.
    version: str = "1"
    #: Share of the training samples held out, evenly over the classes, to choose epochs and grid points by.
    validation: float = Field(default=0.0, ge=0.0, le=0.5)
    #: How many training samples keep their label, evenly over the classes; the others only carry soft labels.
    labelled: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _must_be_known(self) -> Self:
        if self.name not in DATASETS and not is_reference(self.name):
            raise _unknown("name", "data set", self.name, DATASETS)
        if self.options and self.name in DATASETS:
            raise PydanticCustomError(
                "options", "data set '{name}' takes no options", {"key": "options", "name": self.name}
            )
        return self


class MlpSpec(Part):
    """Fully connected layers with ReLU; `hidden` lists their widths."""

    name: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(strict=False, max_length=64)]


class CnnSpec(Part):
    """`depth` blocks of convolution, pooling, batch norm and ReLU; the first is `width` channels wide."""

    name: Literal["cnn"] = "cnn"
    width: int = Field(default=32, ge=1, le=1024)
    depth: int = Field(default=3, ge=1, le=5)


class ResnetSpec(Part):
    """The CIFAR-style residual networks of He et al. 2015, section 4.2."""

    name: Literal["resnet8", "resnet14", "resnet20", "resnet32", "resnet56"]


class TorchvisionSpec(Part):
    """`torchvision/<name>`, its head fitted to the classes."""

    name: str = Field(pattern=r"^torchvision/[a-z0-9_]+$")
    #: Name of pretrained weights to start from, as `IMAGENET1K_V1`: a worker downloads them.
    weights: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")

    @model_validator(mode="after")
    def _weights_stay_the_same(self) -> Self:
        if self.weights == "DEFAULT":
            raise PydanticCustomError(
                "options",
                "what DEFAULT means changes with torchvision: name them, as IMAGENET1K_V1",
                {"key": "weights"},
            )
        return self


class CustomModelSpec(Part):
    """`package.module:callable`, called with `input_shape`, `classes` and the options."""

    name: str
    options: Options = {}
    #: Part of the key: change it when the callable's code changes.
    version: str = "1"


def _unknown(key: str, noun: str, name: str, known: Any) -> PydanticCustomError:
    return PydanticCustomError(
        "unknown_name",
        "unknown {noun} '{name}'{hint}",
        {"key": key, "noun": noun, "name": name, "hint": did_you_mean(name, known)},
    )


def _model_family(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    if name in ("mlp", "cnn"):
        return name
    if name in RESNETS:
        return "resnet"
    if name.startswith("torchvision/"):
        return "torchvision"
    return "custom" if is_reference(name) else None


def _must_be_a_known_model(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("name"), str) and _model_family(value) is None:
        known = (*MODELS, "torchvision/<name>", "package.module:callable")
        raise _unknown("name", "model", value["name"], known)
    return value


ModelSpec = Annotated[
    Annotated[MlpSpec, Tag("mlp")]
    | Annotated[CnnSpec, Tag("cnn")]
    | Annotated[ResnetSpec, Tag("resnet")]
    | Annotated[TorchvisionSpec, Tag("torchvision")]
    | Annotated[CustomModelSpec, Tag("custom")],
    Discriminator(
        _model_family,
        custom_error_type="model",
        custom_error_message="a model is a mapping with a name, as in {name: mlp, hidden: [128]}",
    ),
    BeforeValidator(_must_be_a_known_model),
]


class AugmentationSpec(Part):
    """What is done to an image, at random: each view of a sample is a pure function of (seed, view, sample)."""

    #: Largest shift in pixels, up, down, left or right; what comes in from outside is 0.
    shift: int = Field(default=0, ge=0, le=64)
    #: Whether half of the images are mirrored left to right.
    flip: bool = False
    #: Side in pixels of a square that is set to 0; 0 leaves all.
    cutout: int = Field(default=0, ge=0, le=256)
    #: Largest share of another sample that is blended in, from 0 (none) to 0.5.
    mixup: float = Field(default=0.0, ge=0.0, le=0.5)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @property
    def changes_nothing(self) -> bool:
        """Whether every view is the sample as it is."""
        return not (self.shift or self.flip or self.cutout or self.mixup)


class TrainingSpec(Part):
    """How a model is trained; the defaults suit small images."""

    epochs: int = Field(default=5, ge=1, le=100_000)
    batch_size: int = Field(default=256, ge=1, le=1_048_576)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1e3)
    #: Of matrices and kernels only: norms and biases are left alone.
    weight_decay: float = Field(default=0.0, ge=0.0, le=10.0)
    schedule: Literal["constant", "one_cycle", "cosine"] = "one_cycle"
    #: Share of the steps in which the learning rate rises from 0, before a constant or cosine schedule.
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    #: Share of a hard label that is spread over all classes.
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    #: A teacher's views; a student and its control see those of the soft labels.
    augmentation: AugmentationSpec = AugmentationSpec()
    #: `best` keeps the weights of the epoch with the highest accuracy on held-out samples.
    keep: Literal["last", "best"] = "last"
    #: Epochs without a better accuracy on held-out samples after which a training ends; none: never.
    patience: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    #: `auto` is bfloat16 where the device computes it natively, else float32.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class TeacherSpec(Part):
    """The model that teaches: trained here, or given as a safetensors file of its weights."""

    model: ModelSpec
    training: TrainingSpec = TrainingSpec()
    #: Path of the weights, relative to the spec's own folder.
    checkpoint: str | None = None

    @model_validator(mode="after")
    def _trained_or_given(self) -> Self:
        if self.checkpoint is not None and "training" in self.model_fields_set:
            raise PydanticCustomError(
                "teacher", "a teacher with a checkpoint is not trained: remove one of the two", {"key": "training"}
            )
        return self


class LabelTeacherSpec(Part):
    """A teacher that is known by its soft labels only: it cannot run here, or is nobody's to give."""

    #: Path of an `.npz` or `.safetensors` file with its logits, relative to the spec's own folder.
    soft_labels: str


def _teacher_kind(value: Any) -> str:
    given = isinstance(value, LabelTeacherSpec) or (isinstance(value, dict) and "soft_labels" in value)
    return "of labels" if given else "of a model"


OneTeacher = Annotated[
    Annotated[TeacherSpec, Tag("of a model")] | Annotated[LabelTeacherSpec, Tag("of labels")],
    Discriminator(_teacher_kind),
]


class WeightedTeacherSpec(TeacherSpec):
    """One of several teachers."""

    #: Of its part in the average, beside the others' weights.
    weight: float = Field(default=1.0, gt=0.0, le=1e6)


AnyTeacher = TypeVar("AnyTeacher", bound=TeacherSpec)


def _auto_or_workers(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= 1_000):
        return value
    raise PydanticCustomError("shards", "input should be 'auto' or a number of workers from 1 to 1,000")


class SoftLabelsSpec(Part):
    """How the teacher's logits are stored, and on which views of the samples they are computed."""

    #: `uint8` has a scale a row.
    dtype: Dtype = "float16"
    #: How many of a sample's largest logits are kept, with the log-sum-exp of all; none: all of them.
    top_k: int | None = Field(default=None, ge=1, le=65_536)
    #: Views of each sample; in epoch e a student sees view e modulo this, the very pixels that its labels are of.
    views: int = Field(default=1, ge=1, le=10_000)
    augmentation: AugmentationSpec = AugmentationSpec()
    #: How many workers share the labelling: `auto` asks those that are there for help where it pays.
    shards: Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_workers)] = "auto"

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.views > 1 and self.augmentation.changes_nothing:
            raise PydanticCustomError(
                "options", "{views} views would be the same: set an augmentation", {"key": "views", "views": self.views}
            )
        return self


_FIELDS_OF_LOSSES = {
    "target_weight": "dkd",
    "others_weight": "dkd",
    "inter_weight": "dist",
    "intra_weight": "dist",
}


class DistillationSpec(Part):
    """`alpha * soft loss at temperature T + (1 - alpha) * cross-entropy` (Hinton et al. 2015)."""

    #: The soft loss: one of `LOSSES`, or `package.module:callable`.
    loss: str = "kd"
    #: Keyword arguments of a loss of the user's own.
    options: Options = {}
    #: Of a loss of the user's own, part of the key: change it when its code changes.
    version: str = "1"
    temperature: float = Field(default=4.0, gt=0.0, le=1e4)
    alpha: float = Field(default=0.9, ge=0.0, le=1.0)
    #: Bring both logits to mean 0 and deviation 1 before the soft loss (Sun et al. 2024).
    standardise: bool = False
    #: `dkd`: weights of the target's and of the other classes' part (Zhao et al. 2022, alpha and beta).
    target_weight: float = Field(default=1.0, ge=0.0, le=1e3)
    others_weight: float = Field(default=8.0, ge=0.0, le=1e3)
    #: `dist`: weights of the relations between and within classes (Huang et al. 2022, beta and gamma).
    inter_weight: float = Field(default=2.0, ge=0.0, le=1e3)
    intra_weight: float = Field(default=2.0, ge=0.0, le=1e3)

    @model_validator(mode="after")
    def _must_be_known(self) -> Self:
        if self.loss not in LOSSES and not is_reference(self.loss):
            raise _unknown("loss", "loss", self.loss, (*LOSSES, "package.module:callable"))
        own = is_reference(self.loss)
        for field, of_own in (("standardise", False), ("options", True), ("version", True)):
            if of_own != own and getattr(self, field) != type(self).model_fields[field].default:
                whose = "a loss of your own" if of_own else "the losses of this system"
                raise PydanticCustomError("options", "belongs to {whose} only", {"key": field, "whose": whose})
        for field, loss in _FIELDS_OF_LOSSES.items():
            if loss != self.loss and getattr(self, field) != type(self).model_fields[field].default:
                raise PydanticCustomError(
                    "options",
                    "belongs to loss '{owner}', not to '{loss}'",
                    {"key": field, "owner": loss, "loss": self.loss},
                )
        return self


class StudentSpec(Part):
    """A model that learns from the teacher's soft labels."""

    name: Name
    model: ModelSpec
    distillation: DistillationSpec = DistillationSpec()
    training: TrainingSpec = TrainingSpec()
    #: How many seeds, from the training's own on, it and its control are trained with.
    seeds: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _sees_the_views_of_the_soft_labels(self) -> Self:
        if not self.training.augmentation.changes_nothing:
            raise PydanticCustomError(
                "options",
                "a student sees the views of the soft labels: set soft_labels.augmentation instead",
                {"key": "training.augmentation"},
            )
        return self


class GridPoint(Part):
    """One of a student's candidates, and what tells it from the others."""

    label: str
    student: StudentSpec


class StudentGrid(Part):
    """A student with `{grid: [...]}` in some fields: the candidate that is best on held-out samples is scored."""

    name: Name
    points: Annotated[tuple[GridPoint, ...], Field(strict=False, min_length=1)]

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
            first = error.errors()[0]
            place = ".".join(
                map(str, (*first["loc"], *([first["ctx"]["key"]] if "key" in first.get("ctx", {}) else [])))
            )
            problem = f"with {label}: {place}: {first['msg']}"
            raise PydanticCustomError("students", "{problem}", {"problem": problem}) from None
    return StudentGrid(name=value["name"], points=tuple(validated))


def _student_kind(value: Any) -> str:
    return "grid" if isinstance(value, StudentGrid) or (isinstance(value, dict) and "points" in value) else "student"


AnyStudent = Annotated[
    Annotated[StudentSpec, Tag("student")] | Annotated[StudentGrid, Tag("grid")],
    Discriminator(_student_kind),
    BeforeValidator(_expanded),
]


class EvaluationSpec(Part):
    """`control`: also train each student without the teacher, to see what the teacher brought."""

    control: bool = True


class PipelineSpec(Part):
    """One pipeline: a data set, a teacher or several, and the students that learn from it."""

    name: Name
    dataset: DatasetSpec = DatasetSpec(name="mnist_5k")
    teacher: OneTeacher | None = None
    #: In place of one: teachers whose average the students learn from.
    teachers: Annotated[tuple[WeightedTeacherSpec, ...], Field(strict=False, max_length=100)] = ()
    #: What of several teachers is averaged; the logarithm of averaged probabilities stands for logits.
    average: Literal["probabilities", "logits"] = "probabilities"
    soft_labels: SoftLabelsSpec = SoftLabelsSpec()
    students: Annotated[tuple[AnyStudent, ...], Field(strict=False, min_length=1, max_length=1000)]
    evaluation: EvaluationSpec = EvaluationSpec()
    device: Device = "any"
    #: Before or after what else waits in its queue.
    priority: Priority = "normal"
    #: `auto` trains students, controls and seeds of one shape together, as one stacked model.
    fuse: Literal["auto", "off"] = "auto"
    #: Seconds that a stage of a kind may take at one go, as `{train_teacher: 3600}`.
    time_limits: dict[str, Annotated[float, Field(ge=1.0, le=365 * 86_400.0)]] = {}

    @property
    def all_teachers(self) -> tuple[TeacherSpec, ...]:
        """The teacher, or the teachers; none where there are only labels of one."""
        return self.teachers or ((self.teacher,) if isinstance(self.teacher, TeacherSpec) else ())

    @property
    def candidates(self) -> Iterator[tuple[str, StudentSpec]]:
        """Each student, and each candidate of a grid, with its place in the spec."""
        for index, student in enumerate(self.students):
            specs = [point.student for point in student.points] if isinstance(student, StudentGrid) else [student]
            yield from ((f"students[{index}]", spec) for spec in specs)

    @model_validator(mode="after")
    def _one_teacher_or_several(self) -> Self:
        if (self.teacher is None) == (not self.teachers):
            raise PydanticCustomError("teacher", "a pipeline has either 'teacher' or 'teachers'", {"key": "teacher"})
        models = [teacher.model_copy(update={"weight": 1.0}) for teacher in self.teachers]
        if any(model in models[:index] for index, model in enumerate(models)):
            raise PydanticCustomError(
                "teacher", "two teachers are the same: give one of them more weight", {"key": "teachers"}
            )
        if len(self.teachers) == 1:
            raise PydanticCustomError("teacher", "a single one is 'teacher', without a list", {"key": "teachers"})
        if self.teacher and self.average != "probabilities":
            raise PydanticCustomError("options", "a single teacher is no average", {"key": "average"})
        return self

    @model_validator(mode="after")
    def _given_labels_are_not_shared(self) -> Self:
        if isinstance(self.teacher, LabelTeacherSpec) and self.soft_labels.shards != "auto":
            raise PydanticCustomError(
                "options", "given labels are not computed: there is nothing to share", {"key": "soft_labels.shards"}
            )
        return self

    @model_validator(mode="after")
    def _top_k_leaves_something_out(self) -> Self:
        facts, top_k = DATASETS.get(self.dataset.name), self.soft_labels.top_k
        if facts and top_k is not None and top_k >= facts.classes:
            raise PydanticCustomError(
                "options",
                "{top_k} of {classes} classes: leave it out to keep all",
                {"key": "soft_labels.top_k", "top_k": top_k, "classes": facts.classes},
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: set[str] = set()
        for student in self.students:
            if student.name == "teacher":
                raise PydanticCustomError("students", "no student can be named 'teacher'", {"key": "students"})
            if student.name in seen:
                raise PydanticCustomError(
                    "students", "two students are named '{name}'", {"key": "students", "name": student.name}
                )
            seen.add(student.name)
        return self

    @model_validator(mode="after")
    def _choosing_needs_held_out_samples(self) -> Self:
        if self.dataset.validation > 0.0:
            return self
        for student in self.students:
            if isinstance(student, StudentGrid):
                raise PydanticCustomError(
                    "options",
                    "'{name}' has a grid, whose points are compared on held-out samples: set dataset.validation to "
                    "their share, as 0.1",
                    {"key": "dataset.validation", "name": student.name},
                )
        for place, training in (
            *(("teacher", teacher.training) for teacher in self.all_teachers),
            *((place, student.training) for place, student in self.candidates),
        ):
            if training.keep == "best" or training.patience is not None:
                raise PydanticCustomError(
                    "options",
                    "{place}.training chooses by held-out samples: set dataset.validation to their share, as 0.1",
                    {"key": "dataset.validation", "place": place},
                )
        return self

    @model_validator(mode="after")
    def _limits_name_known_kinds(self) -> Self:
        for kind in self.time_limits:
            if kind not in KINDS:
                raise PydanticCustomError(
                    "time_limits",
                    "unknown kind of stage '{name}'{hint}",
                    {"key": "time_limits", "name": kind, "hint": did_you_mean(kind, KINDS)},
                )
        return self

    @classmethod
    def load(cls, path: Path, changes: Sequence[str] = ()) -> Self:
        """The spec in a YAML, TOML or JSON file, with its checkpoint's path made absolute.

        Args:
            path: the file.
            changes: values to set first, each as `students.0.distillation.temperature=2`.

        Raises:
            InvalidSpec: the file cannot be read or used; one line a mistake, with file, line and field.
            InvalidSettings: a change is of another form, or names no place in the spec.

        """
        source = SpecFile.read(path).changed(changes)
        try:
            spec = cls.model_validate(source.data)
        except ValidationError as error:
            raise InvalidSpec(source.explain(error)) from None
        if isinstance(spec.teacher, LabelTeacherSpec):
            place = ("teacher", "soft_labels")
            path = _existing(spec.teacher.soft_labels, source, place)
            try:
                spec._require_labels_in(path)
            except (InvalidInput, OSError) as error:
                raise InvalidSpec(source.at(place, str(error))) from error
            return spec.model_copy(update={"teacher": LabelTeacherSpec(soft_labels=str(path))})
        if spec.teacher:
            return spec.model_copy(update={"teacher": spec._found(spec.teacher, source, ("teacher",))})
        found = tuple(spec._found(each, source, ("teachers", index)) for index, each in enumerate(spec.teachers))
        return spec.model_copy(update={"teachers": found})

    @staticmethod
    def seen_in(path: Path) -> tuple[DatasetSpec, SoftLabelsSpec]:
        """The data set and the soft labels of the spec in a file, whose other parts may be missing.

        Raises:
            InvalidSpec: as for `load`.

        """
        source = SpecFile.read(path)
        parts: list[Any] = []
        for name, kind in (("dataset", DatasetSpec), ("soft_labels", SoftLabelsSpec)):
            default = PipelineSpec.model_fields[name].get_default()
            try:
                parts.append(kind.model_validate(source.data.get(name, default)))
            except ValidationError as error:
                raise InvalidSpec(source.explain(error, (name,))) from None
        return parts[0], parts[1]

    def _found(self, teacher: AnyTeacher, source: SpecFile, place: Location) -> AnyTeacher:
        """The teacher with its checkpoint's path made absolute, if it has one."""
        if teacher.checkpoint is None:
            return teacher
        checkpoint = _existing(teacher.checkpoint, source, (*place, "checkpoint"))
        try:
            self._require_classes_of(checkpoint, teacher)
        except InvalidSpec as error:
            raise InvalidSpec(source.at((*place, "checkpoint"), str(error))) from error
        return teacher.model_copy(update={"checkpoint": str(checkpoint)})

    def _require_labels_in(self, path: Path) -> None:
        """Refuse a file that holds no labels, or those of other views or, as far as is known here, other classes."""
        facts = DATASETS.get(self.dataset.name)
        with LabelFile.open(path) as file:
            if file.views != self.soft_labels.views:
                raise InvalidSpec(
                    f"{path.name}: labels of {file.views} views, soft_labels.views is {self.soft_labels.views}"
                )
            if facts and file.classes != facts.classes:
                raise InvalidSpec(
                    f"{path.name}: labels of {file.classes} classes, data set '{self.dataset.name}' has {facts.classes}"
                )

    def _require_classes_of(self, checkpoint: Path, teacher: TeacherSpec) -> None:
        """Refuse weights of another number of classes; a user's own model or data set is seen by the worker only."""
        dataset, model = self.dataset.name, teacher.model.name
        if dataset not in DATASETS or model not in MODELS:
            return
        given, wanted = classes_of(checkpoint), DATASETS[dataset].classes
        if given != wanted:
            raise InvalidSpec(f"{checkpoint.name} tells {given} classes apart, data set '{dataset}' has {wanted}")


def _existing(name: str, source: SpecFile, place: Location) -> Path:
    """The absolute path of a file that a spec names, relative to its own folder."""
    try:
        path = (source.path.parent / name).resolve()
        if path.is_file():
            return path
    except (ValueError, OSError) as error:
        raise InvalidSpec(source.at(place, f"no path of a file: {error}")) from None
    raise InvalidSpec(source.at(place, f"no such file: {path}"))
