"""The context of a stage: what it works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import torch

from distill_queue.shared.errors import ArtifactDamaged, InvalidSpec
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.plan.recipes import ChooseStudent, JoinTeachers, Labels, LoadTeacher, Training
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.plan.starts import START
from distill_queue.shared.results.records import ChoiceRecord, DatasetRecord, EnsembleRecord
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.spec.classes import outputs_of
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.sources.normalise import MeanAndDeviation, NormaliseInputs
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker import models
from distill_queue.worker.data import normalisation
from distill_queue.worker.data.split import Split
from distill_queue.worker.data.views.fingerprint import header_facts
from distill_queue.worker.evaluation import quality
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.last_value import LastValue
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.stages.crew import Alone, Crew
from distill_queue.worker.training.checkpoints import Checkpoints

WEIGHTS = "model.safetensors"

T = TypeVar("T", bound=Record)


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage works with: its inputs, a folder for its files, a device, and the report of its progress."""

    inputs: dict[str, Artifact]
    folder: Path
    runtime: Runtime
    report: Report
    #: Where other machines see unfinished files; None where they see the folder.
    bucket: Bucket | None = None
    #: The workers that label together, and how many of them are wanted.
    crew: Crew = field(default_factory=Alone)
    shards: Literal["auto"] | int = "auto"
    #: A teacher's logits on the test set, for the next evaluation: a sweep's students have one teacher.
    teacher_on_test: LastValue[torch.Tensor] = field(default_factory=LastValue)
    #: All training samples, normalised, for the next training on them.
    prepared: LastValue[torch.Tensor] = field(default_factory=LastValue)
    #: What the stage is called.
    title: str = ""
    #: Of a training that is a part of the stage, for a later attempt to go on with; None where there is no other.
    checkpoints: Checkpoints | None = None

    def start(self, stage: Stage) -> Artifact:
        """What one of several trainings begins with."""
        return self.inputs[f"{START}/{stage.key}"]

    @property
    def dataset(self) -> DatasetRecord:
        """The facts of the packed data set."""
        return record_of(self.inputs["dataset"], DatasetRecord)

    def split(self, name: str, *, streamed: bool = False) -> Split:
        """The training, validation or test samples, on the device or streamed to it."""
        folder, device = self.inputs["dataset"].folder, self.runtime.device
        return Split.open(folder, name, self.dataset, device, streamed=streamed)

    def split_for(self, model: torch.nn.Module, name: str) -> tuple[Split, int]:
        """Open a split to run a model over, streamed if memory is short, and find the size of the batches that fit.

        Raises:
            StageFailed: there is not even room for one sample.

        """
        mapped = self.split(name, streamed=True)
        streams, batch_size = self.inference(model, mapped, mapped.inputs.nbytes)
        return mapped if streams else mapped.read_whole(), batch_size

    def inference(self, model: torch.nn.Module, mapped: Split, size_bytes: int) -> tuple[bool, int]:
        """Find out whether samples of so many bytes must be streamed through a model, and the size of batches that fit.

        Raises:
            StageFailed: there is not even room for one sample.

        """
        free = self.runtime.free_bytes
        need = memory.of_inference(model, mapped.normalised(slice(0, 1)), size_bytes, free, quality.BATCH)
        return need.streams(free), need.batch_size

    def model(self, role: str, seed: int | None = None) -> torch.nn.Module:
        """Load the trained model of an input; of a choice, the model that was trained with a seed."""
        artifact = self.inputs[role]
        stage = artifact.manifest.stage
        recipe = stage.recipe if stage else None
        if isinstance(recipe, JoinTeachers):
            best = record_of(artifact, EnsembleRecord).best
            return models.load(self.ensemble(recipe, best), artifact.path(WEIGHTS))
        if isinstance(recipe, ChooseStudent) and seed is not None:
            chosen = recipe.models[record_of(artifact, ChoiceRecord).best]
            return models.load(models.build(chosen, self.dataset, self.runtime), artifact.path(weights_of(seed)))
        if not isinstance(recipe, Training | LoadTeacher):
            raise ArtifactDamaged(f"{artifact.folder}: not the artifact of a model")
        if isinstance(recipe, LoadTeacher):
            given = self._teacher(recipe.model, recipe.normalise, recipe.classes)
            return models.load(given, artifact.path(WEIGHTS))
        return models.load(models.build(recipe.model, self.dataset, self.runtime), artifact.path(WEIGHTS))

    def ensemble(self, recipe: JoinTeachers, best: int | None) -> models.Ensemble:
        """Build the model of several teachers, untrained; of a chosen student, that of the best point's models."""
        joined = recipe.models_joined(best)
        teachers = [
            self._teacher(model, recipe.normalise_of(place), recipe.classes_of(place))
            for place, model in enumerate(joined)
        ]
        return models.Ensemble(teachers, recipe.weights, probabilities=recipe.average == "probabilities")

    def _teacher(self, model: ModelSpec, normalise: NormaliseInputs, classes: tuple[str, ...]) -> torch.nn.Module:
        """Build a model, untrained, that takes samples as they are here and sees them as its weights need them."""
        bytes_ = isinstance(normalise, MeanAndDeviation) and self.split("train", streamed=True).stored_as_bytes
        built = self.choosing(self.built(model, classes), classes)
        return normalisation.prepared(built, normalise, self.dataset, self.runtime.device, bytes_=bytes_)

    def built(self, model: ModelSpec, classes: tuple[str, ...]) -> torch.nn.Module:
        """Build a model, untrained, that tells classes apart; the data's, where none are named."""
        data = self.dataset.model_copy(update={"class_names": classes}) if classes else self.dataset
        return models.build(model, data, self.runtime)

    def choosing(self, model: torch.nn.Module, classes: tuple[str, ...]) -> torch.nn.Module:
        """Have a model that tells other classes apart return the logits of the data's, in their order.

        Raises:
            InvalidSpec: it does not know one of the data's classes.

        """
        if not classes or classes == self.dataset.class_names:
            return model
        try:
            return models.choose_outputs(model, outputs_of(self.dataset.class_names, classes), self.runtime.device)
        except InvalidSpec as error:
            raise InvalidSpec(f"teacher.classes: {error}") from error

    def soft_labels(self) -> tuple[SoftLabels, Labels]:
        """Open the soft labels of the training samples, with the recipe that says in which views a student sees these.

        Raises:
            InvalidInput: they are of other samples, or of other views; the message says which.

        """
        artifact = self.inputs["soft_labels"]
        stage = artifact.manifest.stage
        recipe = stage.recipe if stage else None
        if stage is None or not isinstance(recipe, Labels):
            raise ArtifactDamaged(f"{artifact.folder}: not the artifact of soft labels")
        teacher = stage.inputs.get("teacher")
        labels = SoftLabels.open(artifact.folder)
        labels.require(
            dataset_key=self.inputs["dataset"].manifest.key,
            class_names=self.dataset.class_names,
            teacher_key=teacher.key if teacher else None,
            **header_facts(recipe.augmentation, recipe.views),
        )
        return labels, recipe


def weights_of(seed: int) -> str:
    """The file of a chosen model."""
    return f"model-{seed}.safetensors"


def record_of(artifact: Artifact, kind: type[T]) -> T:
    """Return an artifact's record.

    Raises:
        ArtifactDamaged: the record is of another kind.

    """
    record = artifact.record
    if not isinstance(record, kind):
        raise ArtifactDamaged(f"{artifact.folder}: its record is not a {kind.__name__}")
    return record
