"""Continued students: the models of an earlier pipeline that a spec's students are trained on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill_queue.scheduler.client.outcome import kept_results
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    BrokerUnavailable,
    InvalidSpec,
    UnknownPipeline,
)
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.recipes import Distill, StudentRuns, TrainControl, WriteReport
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.plan.starts import STATE, alike
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.start import ContinuedStudent, EarlierModel, EarlierRun
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.store.store import ArtifactStore, store_of


def with_continued(spec: PipelineSpec, settings: Settings, source: SpecFile | None = None) -> PipelineSpec:
    """A spec whose students know the models of the earlier pipelines that they are trained on from.

    Args:
        spec: may have such students.
        settings: of the broker and the store, which are asked only if there are some.
        source: the file that the spec stands in.

    Raises:
        InvalidSpec: a pipeline or a student is not known, is of another model or has other seeds, or was removed.
        BrokerUnavailable, StoreUnavailable: broker or store does not answer.

    """
    if all(student.continues is None or student.continues.runs for _, student in spec.candidates):
        return spec
    source, store = source or SpecFile(Path("spec"), {}, {}), store_of(settings)
    pipelines: dict[str, _Earlier] = {}

    def looked_up(student: StudentSpec, index: int) -> StudentSpec:
        continued = student.continues
        if continued is None or continued.runs:
            return student
        try:
            if continued.pipeline not in pipelines:
                pipelines[continued.pipeline] = _earlier(continued.pipeline, settings, store)
            runs = pipelines[continued.pipeline].runs(student, continued, controls=spec.evaluation.control)
        except (InvalidSpec, UnknownPipeline) as error:
            raise InvalidSpec(source.at(("students", index, "continues"), str(error))) from error
        return student.model_copy(update={"continues": continued.model_copy(update={"runs": runs})})

    return spec.with_students(looked_up)


def _earlier(pipeline: str, settings: Settings, store: ArtifactStore) -> _Earlier:
    """A pipeline that the broker knows, or that `distill run` has kept the results of."""
    if kept := kept_results(settings, pipeline):
        report = next(
            (ArtifactRef(kind=each.kind, key=each.key) for each in kept.stages if each.kind == "report"), None
        )
        if report is None:
            raise InvalidSpec(f"{pipeline}: its results do not say what its report was made from")
        return _Earlier(pipeline, _stage(report, {}, store, pipeline), {}, store)
    try:
        ledger = Ledger(connect(settings), settings.history_seconds)
        plan = ledger.plan(pipeline, Keyring.of(settings.signing_keys))
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"{pipeline}: 'distill run' kept no results of it here, and {error}") from error
    return _Earlier(pipeline, plan.report, {stage.ref: stage for stage in plan.stages}, store)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A pipeline whose students may be trained on from."""

    pipeline: str
    report: Stage
    #: What the broker knows of its stages.
    stages: Mapping[ArtifactRef, Stage]
    store: ArtifactStore

    def runs(self, student: StudentSpec, continued: ContinuedStudent, *, controls: bool) -> tuple[EarlierRun, ...]:
        """The models that a student is trained on from, one for each of its seeds, and those of their controls.

        Raises:
            InvalidSpec: there are none, or they do not fit the student.

        """
        earlier = self._student(continued.student)
        first, called = student.training.seed, f"'{earlier.name}' of {self.pipeline}"
        found = []
        for seed in range(first, first + student.seeds):
            if seed not in earlier.seeds:
                known = ", ".join(map(str, earlier.seeds))
                raise InvalidSpec(f"{called} was trained with seed {known}, and not with {seed}")
            control = self._model(earlier.control(seed), student, f"the control of {called}") if controls else None
            found.append(
                EarlierRun(seed=seed, student=self._model(earlier.role(seed), student, called), control=control)
            )
        return tuple(found)

    def _student(self, name: str) -> StudentRuns:
        students = self.report.recipe.students if isinstance(self.report.recipe, WriteReport) else ()
        for runs in students:
            if runs.name == name:
                return runs
        hint = did_you_mean(name, [runs.name for runs in students])
        raise InvalidSpec(f"{self.pipeline} has no student '{name}'{hint}")

    def _model(self, role: str, student: StudentSpec, called: str) -> EarlierModel:
        if role not in self.report.inputs:
            raise InvalidSpec(f"{called} was not trained: say 'evaluation: {{control: false}}', as there")
        ref = _stage(self.report.inputs[role], self.stages, self.store, called).inputs["model"]
        if ref.kind not in ("distill", "train_control"):
            raise InvalidSpec(f"{called} was chosen from a grid: train its best point as a student of its own first")
        stage = _stage(ref, self.stages, self.store, called)
        artifact = self.store.find(ref)
        if artifact is None:
            raise _gone(called)
        recipe = stage.recipe
        if not isinstance(recipe, Distill | TrainControl):
            raise InvalidSpec(f"{called} is no trained student")
        if recipe.model != student.model:
            one, other = recipe.model.words, student.model.words
            raise InvalidSpec(f"{called} is {one}, not {other}{' with these options' if one == other else ''}")
        return EarlierModel(key=ref.key, alike=alike(recipe, stage.inputs) if STATE in artifact.manifest.files else "")


def _stage(ref: ArtifactRef, known: Mapping[ArtifactRef, Stage], store: ArtifactStore, called: str) -> Stage:
    """The stage that made an artifact, as the broker or else the store knows it."""
    if ref in known:
        return known[ref]
    try:
        stage = store.glance(ref).manifest.stage
    except (ArtifactMissing, ArtifactDamaged) as error:
        raise _gone(called) from error
    if stage is None:
        raise _gone(called)
    return stage


def _gone(called: str) -> InvalidSpec:
    return InvalidSpec(
        f"{called} is not in the store: it is not trained yet, or was removed since, as by 'distill store gc'"
    )
