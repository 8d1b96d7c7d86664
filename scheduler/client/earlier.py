"""Earlier pipelines: finds the models of their students, where the broker knows them or `distill run` kept results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from distill_queue.scheduler.client.outcome import kept_results
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, BrokerUnavailable, InvalidSpec
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.recipes import StudentRuns, WriteReport
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.store import ArtifactStore


@dataclass(frozen=True, slots=True)
class EarlierPipeline:
    """A pipeline whose students are looked for."""

    id: str
    report: Stage
    #: What the broker knows of its stages.
    stages: Mapping[ArtifactRef, Stage]
    store: ArtifactStore

    @classmethod
    def find(cls, pipeline: str, settings: Settings, store: ArtifactStore) -> Self:
        """A pipeline that the broker knows, or that `distill run` has kept the results of.

        Raises:
            UnknownPipeline: neither is so.
            InvalidSpec: its results do not say what its report was made from, or that is gone.
            BrokerUnavailable, StoreUnavailable: broker or store does not answer.

        """
        if kept := kept_results(settings, pipeline):
            report = next(
                (ArtifactRef(kind=each.kind, key=each.key) for each in kept.stages if each.kind == "report"), None
            )
            if report is None:
                raise InvalidSpec(f"{pipeline}: its results do not say what its report was made from")
            return cls(pipeline, stage_of(report, {}, store, pipeline), {}, store)
        try:
            ledger = Ledger(connect(settings), settings.history_seconds)
            plan = ledger.plan(pipeline, Keyring.of(settings.signing_keys))
        except BrokerUnavailable as error:
            raise BrokerUnavailable(f"{pipeline}: 'distill run' kept no results of it here, and {error}") from error
        return cls(pipeline, plan.report, {stage.ref: stage for stage in plan.stages}, store)

    def student(self, name: str) -> StudentRuns:
        """A student's runs.

        Raises:
            InvalidSpec: the pipeline has no such student.

        """
        students = self.report.recipe.students if isinstance(self.report.recipe, WriteReport) else ()
        for runs in students:
            if runs.name == name:
                return runs
        hint = did_you_mean(name, [runs.name for runs in students])
        raise InvalidSpec(f"{self.id} has no student '{name}'{hint}")

    def stage(self, ref: ArtifactRef, called: str) -> Stage:
        """The stage that made an artifact, as the broker or else the store knows it.

        Raises:
            InvalidSpec: neither knows it.

        """
        return stage_of(ref, self.stages, self.store, called)


def stage_of(ref: ArtifactRef, known: Mapping[ArtifactRef, Stage], store: ArtifactStore, called: str) -> Stage:
    """The stage that made an artifact, known or from its manifest.

    Raises:
        InvalidSpec: it is not known, and the artifact is not in the store.

    """
    if ref in known:
        return known[ref]
    try:
        stage = store.glance(ref).manifest.stage
    except (ArtifactMissing, ArtifactDamaged) as error:
        raise gone(called) from error
    if stage is None:
        raise gone(called)
    return stage


def gone(called: str) -> InvalidSpec:
    """The error that something of a pipeline is not there."""
    return InvalidSpec(
        f"{called} is not in the store: it is not trained yet, or was removed since, as by 'distill store gc'"
    )
