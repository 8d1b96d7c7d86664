"""Recipes: what each kind of stage does, as far as its result depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from distill_queue.shared.catalog import Dtype
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.budget import BudgetSpec
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import Name, SpecPart
from distill_queue.shared.spec.sources.normalise import NormaliseInputs
from distill_queue.shared.spec.start import Start
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.shared.spec.transfer import TransferSpec

if TYPE_CHECKING:
    from distill_queue.shared.soft_labels.encoding import Encoding


#: What a training begins with, its input `start`; None, and left out, where weights are drawn from its seed.
StartOrDrawn = Annotated[Start | None, Field(exclude_if=lambda start: start is None)]
#: Parts of a pipeline's work, each of one colour in the report's timeline.
Work = Literal["teacher", "labels", "student", "control", "evaluation", "other"]


class StageRecipe(SpecPart):
    """What all recipes share, and the facts of a kind, which no message and no artifact carries.

    A kind of stage is a class here, named in `Recipe` and in the catalog's `STAGE_KINDS`, and a file in
    `worker/stages/`.
    """

    #: Part of the key. Raised by one when the stage's code changes its result, so that old artifacts are not taken
    #: for new ones.
    version: ClassVar[int] = 1
    #: The part of a pipeline's work that the kind belongs to.
    work: ClassVar[Work] = "other"
    #: The folder in the stage's unfinished work that a later attempt goes on with; None where each begins anew.
    unfinished_folder: ClassVar[str | None] = None

    def details(self, *dataset: str) -> tuple[str, ...]:
        """What the stage works with and how, in words; with the data set's name where it is given."""
        return dataset


class PrepareData(StageRecipe):
    """Pack a data set into arrays."""

    version = 3

    kind: Literal["prepare_data"] = "prepare_data"
    dataset: DatasetSpec

    def details(self, *_dataset: str) -> tuple[str, ...]:
        """None: the stage's title has the data set."""
        return ()


class TrainTeacher(StageRecipe):
    """Train the teacher on the data set's labels."""

    version = 3
    work = "teacher"

    kind: Literal["train_teacher"] = "train_teacher"
    model: ModelSpec
    training: TrainingSpec
    start: StartOrDrawn = None

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The model, the data set, what it starts from, and for how long."""
        return (self.model.words, *dataset, *_how(self))


class LoadTeacher(StageRecipe):
    """Take the teacher's weights from a file that the client put into the store."""

    work = "teacher"

    kind: Literal["load_teacher"] = "load_teacher"
    model: ModelSpec
    #: What it was trained on; left out where nothing is said, so that workers of earlier versions read it.
    normalise: NormaliseInputs = Field(default="data", exclude_if=lambda normalise: normalise == "data")
    #: The names of its classes in the order of its outputs; none where they are the data's.
    classes: Annotated[tuple[str, ...], Field(strict=False, exclude_if=lambda classes: not classes)] = ()

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The model, the data set, and what the teacher was trained on."""
        normalise = self.normalise if isinstance(self.normalise, str) else "its own mean and deviation"
        inputs = () if normalise == "data" else (f"normalise: {normalise}",)
        return (self.model.words, *dataset, *inputs, *((f"{len(self.classes):,} classes",) if self.classes else ()))


class JoinTeachers(StageRecipe):
    """Make one model of several teachers, whose outputs are averaged; or of the seeds of a student that was chosen."""

    work = "teacher"

    kind: Literal["join_teachers"] = "join_teachers"
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    weights: Annotated[tuple[float, ...], Field(strict=False)]
    average: Literal["probabilities", "logits"]
    #: As of `LoadTeacher`, of each; none where all are as all models here.
    normalise: Annotated[
        tuple[NormaliseInputs, ...], Field(strict=False, exclude_if=lambda normalise: not normalise)
    ] = ()
    #: As of `LoadTeacher`, of each; none where all know the data's classes.
    classes: Annotated[
        tuple[Annotated[tuple[str, ...], Field(strict=False)], ...],
        Field(strict=False, exclude_if=lambda classes: not classes),
    ] = ()
    #: Of a chosen student, whose grid has `models`: the seeds, each with a weight. Left out where nothing was chosen.
    seeds: Annotated[tuple[int, ...], Field(strict=False, exclude_if=lambda seeds: not seeds)] = ()

    def models_joined(self, best: int | None) -> tuple[ModelSpec, ...]:
        """The teachers' models; of a chosen student, that of the best point, once for each seed."""
        return self.models if best is None else (self.models[best],) * len(self.seeds)

    def normalise_of(self, place: int) -> NormaliseInputs:
        """What the teacher at a place was trained on."""
        return self.normalise[place] if self.normalise else "data"

    def classes_of(self, place: int) -> tuple[str, ...]:
        """The names of its classes; none where they are the data's."""
        return self.classes[place] if self.classes else ()

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The teachers' models, and the data set."""
        return (*(model.words for model in self.models), *dataset)


class Labels(StageRecipe):
    """What soft labels are of, and how they are stored."""

    work = "labels"
    unfinished_folder: ClassVar[str] = "soft_labels"

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

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The data set, how a row is stored, and how many views there are of a sample."""
        return (*dataset, self.encoding.name, *((f"{self.views} views",) if self.views > 1 else ()))


class SoftLabelling(Labels):
    """Compute the teacher's logits on the views of the transfer set."""

    version = 2

    kind: Literal["soft_labels"] = "soft_labels"


class ImportSoftLabels(Labels):
    """Take soft labels from a file that the client put into the store."""

    kind: Literal["import_soft_labels"] = "import_soft_labels"


class Distill(StageRecipe):
    """Train a student on soft labels, or on its teacher's answers in each step."""

    version = 3
    work = "student"

    kind: Literal["distill"] = "distill"
    model: ModelSpec
    distillation: DistillationSpec
    training: TrainingSpec
    transfer: TransferSpec = Field(default=TransferSpec(), exclude_if=lambda transfer: transfer.changes_nothing)
    #: Whether the input `teacher` answers in each step, in place of `soft_labels`; then each epoch sees a new view.
    online: bool = Field(default=False, exclude_if=lambda online: not online)
    augmentation: AugmentationSpec = Field(
        default=AugmentationSpec(), exclude_if=lambda augmentation: augmentation == AugmentationSpec()
    )
    start: StartOrDrawn = None

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The model, the data set, the classes, by which loss, what it starts from, and for how long."""
        how = self.distillation.words + (", the teacher answers in each step" if self.online else "")
        return (self.model.words, *dataset, *_classes(self.transfer), how, *_how(self))


class TrainControl(StageRecipe):
    """Train a student's control: the same student, on the same views, without the teacher."""

    version = 3
    work = "control"

    kind: Literal["train_control"] = "train_control"
    model: ModelSpec
    training: TrainingSpec
    #: Seen in turn; None where each epoch has one of its own.
    views: int | None = 1
    augmentation: AugmentationSpec = AugmentationSpec()
    transfer: TransferSpec = Field(default=TransferSpec(), exclude_if=lambda transfer: transfer.changes_nothing)
    start: StartOrDrawn = None

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The model, the data set, the classes, what it starts from, and for how long."""
        return (self.model.words, *dataset, *_classes(self.transfer), *_how(self))


class ChooseStudent(StageRecipe):
    """Find the point of a grid whose models are best on held-out samples, over all seeds."""

    work = "evaluation"

    kind: Literal["choose"] = "choose"
    #: What tells the points apart, and their models.
    labels: Annotated[tuple[str, ...], Field(strict=False)]
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False)]
    seeds: Annotated[tuple[int, ...], Field(strict=False)]


#: How multiply-adds are counted: in linear and convolutional layers, or of whatever torch computes.
Counting = Literal["layers", "operators"]


class Evaluate(StageRecipe):
    """Score a model on the test set: a given one, or the one that was chosen from a grid."""

    version = 2
    work = "evaluation"

    kind: Literal["evaluate"] = "evaluate"
    #: Of a chosen student, the run.
    seed: int | None = None
    #: As `counting_of` the model. It only marks the key: a worker asks the model's own recipe, as evaluations that
    #: earlier versions planned say nothing here.
    counting: Counting = Field(default="layers", exclude_if=lambda counting: counting == "layers")


class Export(StageRecipe):
    """Write a student as a file for another runtime, and score that file on the test set."""

    kind: Literal["export"] = "export"
    format: str
    #: Of the format's exporter.
    revision: int = 1
    #: Of a format of the user's own, as the spec says it.
    version_of_own: str = Field(default="1", exclude_if=lambda version: version == "1")
    #: Points of accuracy that may be lost; None where no answer may change.
    tolerance: float | None = None
    #: Of a chosen student, the run.
    seed: int | None = None
    #: A note that the file holds.
    licence: str = Field(default="", exclude_if=lambda text: not text)
    #: How the student is trained on, with rounded weights, where a file of integers loses more than the tolerance: one
    #: training, or of a chosen student, one for each point of its grid. None where this is not asked for.
    adaptations: Annotated[tuple[Distill, ...], Field(strict=False, exclude_if=lambda each: not each)] = ()

    def details(self, *dataset: str) -> tuple[str, ...]:
        """The format, and the data set."""
        return (self.format, *dataset)


class WritePageProgram(StageRecipe):
    """Write a teacher as a program that the report's page computes, where students that it taught are exported."""

    kind: Literal["page_program"] = "page_program"
    #: Of the program's writer, as of an exporter.
    revision: int = 1


class StudentRuns(SpecPart):
    """A student's runs, one a seed; `role` and `control` name a run's evaluations among a report's inputs."""

    name: Name
    seeds: Annotated[tuple[int, ...], Field(strict=False)]
    #: The assistant that taught it; left out where the pipeline's own teacher did.
    teacher: Name | None = Field(default=None, exclude_if=lambda teacher: teacher is None)

    @property
    def taught(self) -> tuple[str, ...]:
        """Words about who taught the student; none where the pipeline's own teacher did."""
        return (f"taught by {self.teacher}",) if self.teacher else ()

    def role(self, seed: int) -> str:
        """The student's evaluation."""
        return self.name if len(self.seeds) == 1 else f"{self.name}, seed {seed}"

    def control(self, seed: int) -> str:
        """Its control's evaluation."""
        return f"{self.role(seed)}/control"

    def export(self, name: str) -> str:
        """The student's export in a format: that of its first seed."""
        return f"{self.role(self.seeds[0])}/export/{name}"


class WriteReport(StageRecipe):
    """Compare the students with their controls and the teacher."""

    version = 2

    kind: Literal["report"] = "report"
    students: Annotated[tuple[StudentRuns, ...], Field(strict=False)]
    #: How many teachers were joined; 0 where there was one.
    teachers: int = 0
    #: What the students are chosen by; left out where nothing is said.
    budget: BudgetSpec | None = Field(default=None, exclude_if=lambda budget: budget is None)


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
    | Export
    | WritePageProgram
    | WriteReport,
    Field(discriminator="kind"),
]


#: The class of every recipe, by its kind.
RECIPES: dict[str, type[StageRecipe]] = {
    recipe.model_fields["kind"].default: recipe for recipe in get_args(get_args(Recipe)[0])
}


def models_of(recipe: StageRecipe) -> tuple[ModelSpec, ...]:
    """The models that a stage trains, loads, joins or chooses from: its recipe's `model` or `models`."""
    one: tuple[ModelSpec, ...] = (recipe.model,) if hasattr(recipe, "model") else ()
    return getattr(recipe, "models", one)


def counting_of(models: tuple[ModelSpec, ...]) -> Counting:
    """How the multiply-adds of some models are counted, which their families say."""
    return "layers" if all(model.counted_by_layers for model in models) else "operators"


def _classes(transfer: TransferSpec) -> tuple[str, ...]:
    return () if transfer.changes_nothing else (transfer.words,)


def _how(recipe: TrainTeacher | Distill | TrainControl) -> tuple[str, ...]:
    """What a training starts from, where its weights are not drawn, for how long, and how it minds the classes."""
    start, epochs = recipe.start, recipe.training.epochs
    more = " more" if start and start.mode == "state" else ""
    how_long = f"{epochs:,}{more} epoch{'' if epochs == 1 else 's'}"
    return (*((start.words,) if start else ()), how_long, *recipe.training.words)
