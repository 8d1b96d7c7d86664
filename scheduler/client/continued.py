"""Continued students: the models of an earlier pipeline that a spec's students are trained on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distill_queue.scheduler.client.earlier import EarlierPipeline, gone
from distill_queue.shared.errors import (
    InvalidSpec,
    UnknownPipeline,
)
from distill_queue.shared.plan.recipes import Distill, TrainControl
from distill_queue.shared.plan.starts import STATE, alike
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.start import ContinuedStudent, EarlierModel, EarlierRun
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.store.store import store_of


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
    pipelines: dict[str, EarlierPipeline] = {}

    def looked_up(student: StudentSpec, index: int) -> StudentSpec:
        continued = student.continues
        if continued is None or continued.runs:
            return student
        try:
            if continued.pipeline not in pipelines:
                pipelines[continued.pipeline] = EarlierPipeline.find(continued.pipeline, settings, store)
            earlier = _EarlierRuns(pipelines[continued.pipeline])
            runs = earlier.of(student, continued, controls=spec.evaluation.control)
        except (InvalidSpec, UnknownPipeline) as error:
            raise InvalidSpec(source.at(("students", index, "continues"), str(error))) from error
        return student.model_copy(update={"continues": continued.model_copy(update={"runs": runs})})

    return spec.with_students(looked_up)


@dataclass(frozen=True, slots=True)
class _EarlierRuns:
    """The runs of an earlier pipeline's students, which may be trained on from."""

    pipeline: EarlierPipeline

    def of(self, student: StudentSpec, continued: ContinuedStudent, *, controls: bool) -> tuple[EarlierRun, ...]:
        """The models that a student is trained on from, one for each of its seeds, and those of their controls.

        Raises:
            InvalidSpec: there are none, or they do not fit the student.

        """
        earlier = self.pipeline.student(continued.student)
        first, called = student.training.seed, f"'{earlier.name}' of {self.pipeline.id}"
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

    def _model(self, role: str, student: StudentSpec, called: str) -> EarlierModel:
        if role not in self.pipeline.report.inputs:
            raise InvalidSpec(f"{called} was not trained: say 'evaluation: {{control: false}}', as there")
        ref = self.pipeline.stage(self.pipeline.report.inputs[role], called).inputs["model"]
        if ref.kind not in ("distill", "train_control"):
            raise InvalidSpec(f"{called} was chosen from a grid: train its best point as a student of its own first")
        stage = self.pipeline.stage(ref, called)
        artifact = self.pipeline.store.find(ref)
        if artifact is None:
            raise gone(called)
        recipe = stage.recipe
        if not isinstance(recipe, Distill | TrainControl):
            raise InvalidSpec(f"{called} is no trained student")
        if recipe.model != student.model:
            one, other = recipe.model.words, student.model.words
            raise InvalidSpec(f"{called} is {one}, not {other}{' with these options' if one == other else ''}")
        return EarlierModel(key=ref.key, alike=alike(recipe, stage.inputs) if STATE in artifact.manifest.files else "")
