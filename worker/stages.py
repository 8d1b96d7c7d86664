"""The story of a pipeline: one plain function a stage, each from inputs in the store to a new artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import TypeVar

import torch

from shared.errors import ArtifactDamaged
from shared.plan import (
    Distill,
    Evaluate,
    LoadTeacher,
    PrepareData,
    SoftLabelling,
    Stage,
    TrainControl,
    TrainTeacher,
    WriteReport,
)
from shared.records import (
    DatasetRecord,
    EvaluationRecord,
    Record,
    ReportRecord,
    SoftLabelsRecord,
    StudentScore,
    TrainingRecord,
    WeightsRecord,
)
from shared.soft_labels import SoftLabels, SoftLabelsHeader, SoftLabelsWriter
from shared.store import Artifact, ArtifactStore
from worker import data, evaluation, losses, models
from worker.checkpoints import Checkpoints
from worker.runtime import Report, Runtime
from worker.training import Objective, fit

WEIGHTS = "model.safetensors"
REPORT = "report.json"

T = TypeVar("T", bound=Record)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a stage works with: its inputs, an empty folder for its files, a device, and someone to tell."""

    inputs: dict[str, Artifact]
    folder: Path
    checkpoints: Checkpoints
    runtime: Runtime
    report: Report

    @property
    def dataset(self) -> DatasetRecord:
        """The facts of the packed data set."""
        return _record(self.inputs["dataset"], DatasetRecord)

    def split(self, name: str) -> data.Split:
        """The training or test samples, on the device."""
        return data.Split.open(self.inputs["dataset"].folder, name, self.dataset, self.runtime.device)

    def model(self, role: str) -> torch.nn.Module:
        """The trained model that is an input of this stage."""
        artifact = self.inputs[role]
        stage = artifact.manifest.stage
        if stage is None or not isinstance(stage.recipe, TrainTeacher | LoadTeacher | Distill | TrainControl):
            raise ArtifactDamaged(f"{artifact.folder}: not the artifact of a model")
        model = models.build(stage.recipe.model, self.dataset, self.runtime)
        return models.load(model, artifact.path(WEIGHTS))


def run(
    stage: Stage,
    store: ArtifactStore,
    runtime: Runtime,
    report: Report,
    confirm: Callable[[], None] = lambda: None,
    checkpoint_seconds: float = 30.0,
) -> Artifact:
    """Do a stage and commit its result; `confirm` may refuse a commit or a checkpoint by raising `StageStopped`.

    Raises:
        StageStopped: `report` or `confirm` raised it.
        InvalidInput: the stage asks for something that cannot be.
        Unavailable: the store or a download does not work for now.
        StageFailed: the stage cannot have a result.

    """
    started = time.monotonic()
    inputs = {role: store.open(ref) for role, ref in stage.inputs.items()}
    with store.draft(stage.ref) as folder:
        checkpoints = Checkpoints(store.partial(stage.ref), checkpoint_seconds, confirm)
        record = _story(stage)(Desk(inputs, folder, checkpoints, runtime, report))
        confirm()
        return store.commit(
            stage.ref,
            folder,
            stage=stage,
            record=record,
            provenance=runtime.provenance,
            seconds=time.monotonic() - started,
        )


def prepare_data(recipe: PrepareData, desk: Desk) -> DatasetRecord:
    """Pack a data set into memory-mappable arrays."""
    desk.report("reading")
    return data.load(recipe.dataset, desk.runtime).save(desk.folder)


def train_teacher(recipe: TrainTeacher | TrainControl, desk: Desk) -> TrainingRecord:
    """Train a model on the data set's own labels: a teacher, or a student's control."""
    train = desk.split("train")
    return _train(recipe, train, desk, lambda logits, rows: losses.cross_entropy(logits, train.targets[rows]))


def load_teacher(recipe: LoadTeacher, desk: Desk) -> WeightsRecord:
    """Check that given weights are those of the teacher's model, and take them."""
    weights = desk.inputs["checkpoint"].path(WEIGHTS)
    model = models.load(models.build(recipe.model, desk.dataset, desk.runtime), weights)
    copyfile(weights, desk.folder / WEIGHTS)
    return WeightsRecord(parameters=models.parameters(model))


def label_softly(recipe: SoftLabelling, desk: Desk) -> SoftLabelsRecord:
    """Write the teacher's logits on every training sample, in the data set's order."""
    train, teacher = desk.split("train"), desk.model("teacher")
    header = SoftLabelsHeader(
        dtype=recipe.dtype,
        views=1,
        samples=len(train),
        class_names=desk.dataset.class_names,
        dataset_key=desk.inputs["dataset"].manifest.key,
        teacher_key=desk.inputs["teacher"].manifest.key,
    )
    writer = SoftLabelsWriter(desk.folder, header)
    hits = 0
    for start, logits in evaluation.logit_batches(teacher, train, desk.report):
        writer.write(start, logits.cpu().numpy())
        hits += int((logits.argmax(1) == train.targets[start : start + len(logits)]).sum())
    writer.seal()
    size_bytes = sum(path.stat().st_size for path in desk.folder.iterdir())
    return SoftLabelsRecord(samples=len(train), views=1, size_bytes=size_bytes, accuracy=hits / len(train))


def distill(recipe: Distill, desk: Desk) -> TrainingRecord:
    """Train a student on the soft labels, and on the hard ones as far as `alpha` leaves room."""
    train = desk.split("train")
    labels = SoftLabels.open(desk.inputs["soft_labels"].folder)
    labels.require(dataset_key=desk.inputs["dataset"].manifest.key, class_names=desk.dataset.class_names)
    teacher_logits = torch.from_numpy(labels.logits[0].copy()).to(desk.runtime.device)

    def objective(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return losses.kd(
            logits,
            teacher_logits[rows],
            train.targets[rows],
            temperature=recipe.distillation.temperature,
            alpha=recipe.distillation.alpha,
        )

    return _train(recipe, train, desk, objective)


def evaluate(_recipe: Evaluate, desk: Desk) -> EvaluationRecord:
    """Score a model on the test set, beside the teacher."""
    test, model = desk.split("test"), desk.model("model")
    logits = evaluation.logits_of(model, test, desk.report)
    teacher_logits = evaluation.logits_of(desk.model("teacher"), test, desk.report)
    trained = desk.inputs["model"].manifest.record
    desk.report("latency")
    latency_median_ms, latency_p95_ms = evaluation.latency_ms(model, test)
    return EvaluationRecord(
        samples=len(test),
        accuracy=evaluation.accuracy(logits, test.targets),
        negative_log_likelihood=evaluation.negative_log_likelihood(logits, test.targets),
        agreement=evaluation.agreement(logits, teacher_logits),
        parameters=models.parameters(model),
        multiply_adds=evaluation.multiply_adds(model, test),
        size_bytes=desk.inputs["model"].manifest.files[WEIGHTS].size_bytes,
        latency_median_ms=latency_median_ms,
        latency_p95_ms=latency_p95_ms,
        throughput=evaluation.throughput(model, test),
        device=desk.runtime.provenance.device,
        training_seconds=trained.seconds if isinstance(trained, TrainingRecord) else None,
    )


def write_report(recipe: WriteReport, desk: Desk) -> ReportRecord:
    """Compare every student with its control and with the teacher."""
    scores = {role: _record(artifact, EvaluationRecord) for role, artifact in desk.inputs.items()}
    teacher = scores["teacher"]
    students = tuple(_compare(name, scores[name], scores.get(f"{name}/control"), teacher) for name in recipe.students)
    report = ReportRecord(teacher=teacher, students=students)
    (desk.folder / REPORT).write_text(report.model_dump_json(indent=1))
    return report


def _story(stage: Stage) -> Callable[[Desk], Record]:
    match stage.recipe:
        case PrepareData() as recipe:
            return partial(prepare_data, recipe)
        case TrainTeacher() | TrainControl() as recipe:
            return partial(train_teacher, recipe)
        case LoadTeacher() as recipe:
            return partial(load_teacher, recipe)
        case SoftLabelling() as recipe:
            return partial(label_softly, recipe)
        case Distill() as recipe:
            return partial(distill, recipe)
        case Evaluate() as recipe:
            return partial(evaluate, recipe)
        case WriteReport() as recipe:
            return partial(write_report, recipe)


def _train(
    recipe: TrainTeacher | TrainControl | Distill, train: data.Split, desk: Desk, objective: Objective
) -> TrainingRecord:
    model = models.build(recipe.model, desk.dataset, desk.runtime, recipe.training.seed)
    dtype = desk.runtime.dtype(recipe.training.precision)
    record = fit(model, train, objective, recipe.training, dtype, desk.report, desk.checkpoints)
    models.save(model, desk.folder / WEIGHTS)
    return record


def _compare(
    name: str, student: EvaluationRecord, control: EvaluationRecord | None, teacher: EvaluationRecord
) -> StudentScore:
    if control is None:
        return StudentScore(name=name, student=student, control=None, gain=None, gap_closed=None)
    gain = student.accuracy - control.accuracy
    gap = teacher.accuracy - control.accuracy
    return StudentScore(
        name=name, student=student, control=control, gain=gain, gap_closed=gain / gap if gap > 0 else None
    )


def _record(artifact: Artifact, kind: type[T]) -> T:
    record = artifact.record
    if not isinstance(record, kind):
        raise ArtifactDamaged(f"{artifact.folder}: its record is not a {kind.__name__}")
    return record
