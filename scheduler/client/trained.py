"""Trained students: the model of a student of an earlier pipeline, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from distill_queue.scheduler.client.earlier import EarlierPipeline
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    BrokerUnavailable,
    InvalidInput,
    InvalidSpec,
    UnknownPipeline,
)
from distill_queue.shared.files.folders import found_in
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import State
from distill_queue.shared.plan.exports import asked_by
from distill_queue.shared.plan.recipes import ChooseStudent, Distill, PrepareData, StudentRuns, models_of
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.records import ChoiceRecord, DatasetRecord, EvaluationRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.export import ExportSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore, store_of

#: A trained model's file, and that of one that was chosen from a grid.
WEIGHTS = "model.safetensors"
CHOSEN_WEIGHTS = "model-{seed}.safetensors"
#: Ids that a message offers for one that is not known.
MOST_NEAR = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """A student with one seed, its model and its data in the store."""

    pipeline: EarlierPipeline
    runs: StudentRuns
    seed: int
    #: Its training, or what chose it from a grid.
    model: Artifact
    recipe: Distill
    #: What was chosen, where it has a grid.
    choice: str
    #: Its files need not be on this machine.
    dataset: Artifact
    evaluation: EvaluationRecord
    control: EvaluationRecord | None
    teacher: EvaluationRecord | None
    #: Models of the teacher, in words; empty where only its labels are known.
    teacher_words: str

    @property
    def role(self) -> str:
        """What reports call it."""
        return self.runs.role(self.seed)

    @property
    def is_chosen(self) -> bool:
        """Whether it was chosen from a grid."""
        return self.model.manifest.kind == "choose"

    @property
    def stage(self) -> Stage:
        """What made its model: its training, or the choice from its grid."""
        return _require(self.model.manifest.stage, self.role)

    @property
    def candidates(self) -> tuple[Stage, ...]:
        """The trainings of its grid with its seed; none where it has no grid."""
        refs = [ref for role, ref in self.stage.inputs.items() if role.endswith(f"/{self.seed}")]
        return tuple(self.pipeline.stage(ref, self.role) for ref in refs) if self.is_chosen else ()

    @property
    def weights(self) -> str:
        """The name of its file of weights in the artifact."""
        return CHOSEN_WEIGHTS.format(seed=self.seed) if self.is_chosen else WEIGHTS

    @property
    def data(self) -> DatasetRecord:
        """The facts of the data set."""
        record = self.dataset.record
        if not isinstance(record, DatasetRecord):
            raise ArtifactDamaged(f"{self.dataset.folder}: its record is not that of a data set")
        return record

    @property
    def dataset_spec(self) -> DatasetSpec:
        """What the spec said of the data set."""
        stage = self.dataset.manifest.stage
        if stage is None or not isinstance(stage.recipe, PrepareData):
            raise ArtifactDamaged(f"{self.dataset.folder}: not the artifact of a data set")
        return stage.recipe.dataset

    @property
    def asked(self) -> ExportSpec | None:
        """What the pipeline's spec says of its export."""
        begin, found = self.runs.export(""), []
        for role, ref in self.pipeline.report.inputs.items():
            if role.startswith(begin):
                try:
                    found.append(self.pipeline.stage(ref, role).recipe)
                except InvalidSpec:  # The file was removed, and a run's results do not say how it was made.
                    continue
        return asked_by(found)


def find_student(pipeline: str, name: str, seed: int | None, settings: Settings) -> TrainedStudent:
    """A student of a pipeline, of its first seed unless another is named.

    Raises:
        UnknownPipeline: neither broker nor kept results know the pipeline; the message offers near ids.
        InvalidInput: it has no such student or seed, or that is not trained, or was removed.
        BrokerUnavailable, StoreUnavailable: broker or store does not answer.

    """
    store = store_of(settings)
    found = _pipeline(pipeline, settings, store)
    runs = found.student(name)
    seed = runs.seeds[0] if seed is None else seed
    if seed not in runs.seeds:
        raise InvalidInput(f"--seed: '{name}' of {pipeline} was trained with {_seeds(runs)}, and not with {seed}")
    called = f"'{name}' of {pipeline}"
    try:
        return _trained(found, runs, seed, called)
    except (InvalidSpec, ArtifactMissing) as error:
        raise InvalidInput(_why_missing(found, runs, seed, called, settings)) from error


def _pipeline(pipeline: str, settings: Settings, store: ArtifactStore) -> EarlierPipeline:
    try:
        return EarlierPipeline.find(pipeline, settings, store)
    except (UnknownPipeline, BrokerUnavailable) as error:
        known = [path.stem for path in found_in(settings.folder / "reports") if path.suffix == ".json"]
        if isinstance(error, UnknownPipeline):
            known += connected_ids(settings)
        if not (near := get_close_matches(pipeline, known, MOST_NEAR)):
            raise
        raise type(error)(f"{error}; did you mean {' or '.join(map(repr, near))}?") from error


def connected_ids(settings: Settings) -> list[str]:
    """The ids of the pipelines that the broker knows."""
    return [pipeline for pipeline, _ in Ledger(connect(settings), settings.history_seconds).plan_texts()]


def _trained(found: EarlierPipeline, runs: StudentRuns, seed: int, called: str) -> TrainedStudent:
    inputs, role = found.report.inputs, runs.role(seed)
    evaluation = found.stage(inputs[role], called)
    model = found.store.open(evaluation.inputs["model"])
    recipe, choice = _training(found, model, seed, called)
    teacher_role = found.student(runs.teacher).role(found.student(runs.teacher).seeds[0]) if runs.teacher else "teacher"
    return TrainedStudent(
        pipeline=found,
        runs=runs,
        seed=seed,
        model=model,
        recipe=recipe,
        choice=choice,
        dataset=found.store.glance(evaluation.inputs["dataset"]),
        evaluation=_require(_evaluation(found, inputs[role]), called),
        control=_evaluation(found, inputs.get(runs.control(seed))),
        teacher=_evaluation(found, inputs.get(teacher_role)),
        teacher_words=_teacher(found, evaluation),
    )


def _training(found: EarlierPipeline, model: Artifact, seed: int, called: str) -> tuple[Distill, str]:
    """How a model was trained; and of one that was chosen, which point of its grid it is."""
    stage, choice = _require(model.manifest.stage, called), ""
    if isinstance(stage.recipe, ChooseStudent) and isinstance(model.record, ChoiceRecord):
        choice = model.record.labels[model.record.best]
        stage = found.stage(stage.inputs[f"{model.record.best}/{seed}"], called)
    if not isinstance(stage.recipe, Distill):
        raise ArtifactDamaged(f"{model.folder}: not the artifact of a student")
    return stage.recipe, choice


def _evaluation(found: EarlierPipeline, ref: ArtifactRef | None) -> EvaluationRecord | None:
    """The scores in an artifact, if it is there."""
    if ref is None or ref not in found.store:
        return None
    record = found.store.glance(ref).record
    return record if isinstance(record, EvaluationRecord) else None


def _teacher(found: EarlierPipeline, evaluation: Stage) -> str:
    if "teacher" not in evaluation.inputs:
        return ""
    try:
        return ", ".join(model.words for model in models_of(found.stage(evaluation.inputs["teacher"], "").recipe))
    except InvalidSpec:
        return ""


def _require(found: T | None, called: str) -> T:
    if found is None:
        raise ArtifactMissing(f"{called} has no scores in the store")
    return found


def _seeds(runs: StudentRuns) -> str:
    return f"seed {runs.seeds[0]}" if len(runs.seeds) == 1 else f"the seeds {', '.join(map(str, runs.seeds))}"


def _why_missing(found: EarlierPipeline, runs: StudentRuns, seed: int, called: str, settings: Settings) -> str:
    """Why a student cannot be had: it failed, is not trained yet, or was removed."""
    ref = found.report.inputs[runs.role(seed)]
    if found.stages:
        status = Ledger(connect(settings), settings.history_seconds).status(found.id)
        needed = (status.states[ref.key], status.states[found.stages[ref].inputs["model"].key])
        if any(each.state == State.FAILED for each in needed):
            return f"{called} failed: 'distill logs {found.id}' says why, then 'distill retry {found.id}'"
        if any(each.state != State.DONE for each in needed):
            return f"{called} is not trained and scored yet: 'distill watch {found.id}' follows it"
    way = f"'distill retry {found.id}'" if found.stages else "'distill run' with its spec"
    return (
        f"{called}: its model, its scores or its data are not in {found.store}: they were removed since, as by "
        f"'distill store gc': {way} makes them again"
    )
