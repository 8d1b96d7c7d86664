"""Reading what a report shows of a pipeline's artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, UnreadableRecord, store_errors
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate, JoinTeachers, Training, WritePageProgram
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.report.entries import EvaluatedModel, Missing, MissingKind, Role
from distill_queue.shared.results.history import HISTORY, History, history_of
from distill_queue.shared.results.page_program import PAGE_PROGRAM, PageProgram
from distill_queue.shared.results.predictions import CONFIDENCES, PREDICTIONS, Predictions
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.spec.export import FORMATS
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.manifest import Manifest
from distill_queue.shared.store.store import ArtifactStore


@dataclass(frozen=True, slots=True)
class FactsReader:
    """Reads artifacts, and notes what cannot be read."""

    plan: Plan
    store: ArtifactStore
    scores: ReportRecord
    missing: list[Missing] = field(default_factory=list)
    _opened: dict[str, Artifact | str] = field(default_factory=dict)

    def manifest(self, stage: Stage) -> Manifest | None:
        """The manifest of a stage's artifact."""
        found = self._open(stage.ref)
        if isinstance(found, Artifact):
            return found.manifest
        self.missing.append(Missing("manifest", stage.title, found))
        return None

    def model(
        self, name: str, role: Role, inputs: Sequence[str], evaluations: Sequence[EvaluationRecord]
    ) -> EvaluatedModel:
        """The model whose evaluations, one for each seed, have these names among the report's inputs."""
        refs = [self.plan.report.inputs[each] for each in inputs]
        predictions = [self._predictions(ref) for ref in refs]
        histories = [self._history(ref) for ref in refs]
        return EvaluatedModel(
            name,
            role,
            tuple(evaluations),
            self.scores.fastest(evaluations[0]),
            tuple(each for each in predictions if each is not None) if None not in predictions else (),
            tuple(each for each in histories if each is not None),
        )

    def test_samples(self, name: str, *, mapped: bool = False) -> npt.NDArray[Any] | None:
        """An array of the data set's test samples; a mapped one may be very large: see `local_file`."""
        data = self.plan.trunk[0]
        found = self._open(data.ref)
        try:
            if isinstance(found, Artifact):
                path = self.store.local_file(found, name) if mapped else self.store.verified(found, name)
                return read_array(path, mapped=mapped)
        except ArtifactDamaged:
            found = "damaged"
        self.missing.append(Missing("test samples", data.title, found))
        return None

    def programs(self) -> dict[str, PageProgram]:
        """The programs of exported students by their names, and the teacher's as `teacher`."""
        formats, inputs = [each.name for each in FORMATS.values() if each.has_page_program], self.plan.report.inputs
        roles = [(runs.name, runs.export(name)) for runs in self.plan.students for name in formats]
        stages = [(name, self._stage(inputs[role])) for name, role in roles if role in inputs]
        stages += [("teacher", stage) for stage in self.plan.stages if isinstance(stage.recipe, WritePageProgram)]
        return {name: program for name, stage in stages if (program := self._program(stage))}

    def _program(self, stage: Stage) -> PageProgram | None:
        found = self._files("program", stage, PAGE_PROGRAM)
        if found is None:
            return None
        with store_errors(self.store.root):
            text = found[0].read_bytes()
        try:
            return PageProgram.read(text, PAGE_PROGRAM)
        except UnreadableRecord as error:
            self.missing.append(Missing("program", stage.title, str(error)))
            return None

    def _predictions(self, evaluation: ArtifactRef) -> Predictions | None:
        found = self._files("predictions", self._stage(evaluation), PREDICTIONS, CONFIDENCES)
        with store_errors(self.store.root):
            return Predictions.read(*found) if found else None

    def _history(self, evaluation: ArtifactRef) -> History | None:
        """The history of the training that made the evaluated model."""
        evaluate = self._stage(evaluation)
        model = self._stage(evaluate.inputs["model"])
        if isinstance(model.recipe, Training):
            name = HISTORY
        elif isinstance(evaluate.recipe, Evaluate) and evaluate.recipe.seed is not None:
            name = history_of(evaluate.recipe.seed)
        elif isinstance(model.recipe, JoinTeachers):
            return None  # Each of the teachers that it is the average of has its own.
        else:
            self.missing.append(Missing("history", model.title, "no training made it"))
            return None
        found = self._files("history", model, name)
        with store_errors(self.store.root):
            return History.read(*found) if found else None

    def _files(self, kind: MissingKind, stage: Stage, *names: str) -> list[Any] | None:
        """The verified paths of some files of a stage's artifact."""
        found = self._open(stage.ref)
        try:
            if isinstance(found, Artifact):
                if all(name in found.manifest.files for name in names):
                    return [self.store.verified(found, name) for name in names]
                found = "made by a version that kept none"
        except ArtifactDamaged:
            found = "damaged"
        self.missing.append(Missing(kind, stage.title, found))
        return None

    def _stage(self, ref: ArtifactRef) -> Stage:
        return next(stage for stage in self.plan.stages if stage.key == ref.key)

    def _open(self, ref: ArtifactRef) -> Artifact | str:
        """An artifact, or the reason in words why there is none."""
        if ref.key not in self._opened:
            try:
                self._opened[ref.key] = self.store.glance(ref)
            except ArtifactMissing:
                self._opened[ref.key] = "not in the store any more"
            except ArtifactDamaged:
                self._opened[ref.key] = "damaged"
        return self._opened[ref.key]
