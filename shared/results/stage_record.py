"""Stage records: what any stage returns, and how a pipeline came by it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.page_program import PageProgramRecord
from distill_queue.shared.results.records import (
    ChoiceRecord,
    DatasetRecord,
    DataWarning,
    EnsembleRecord,
    EvaluationRecord,
    SoftLabelsRecord,
    TrainingRecord,
    WeightsRecord,
)
from distill_queue.shared.results.scores import ReportRecord

Record = Annotated[
    DatasetRecord
    | TrainingRecord
    | WeightsRecord
    | EnsembleRecord
    | SoftLabelsRecord
    | ChoiceRecord
    | EvaluationRecord
    | ExportRecord
    | PageProgramRecord
    | ReportRecord,
    Field(discriminator="kind"),
]


def warnings_of(record: Record) -> tuple[DataWarning, ...]:
    """The warnings in a stage's record."""
    return record.warnings if isinstance(record, DatasetRecord | WeightsRecord) else ()


class StageWarning(DataWarning):
    """A warning of a stage of a pipeline."""

    #: The stage's title.
    stage: str
    #: Whether the pipeline's spec accepts it.
    accepted: bool

    def __str__(self) -> str:
        return f"{self.stage}: {super().__str__()}"


class StageRecord(Frozen):
    """How a pipeline came by a stage's result."""

    key: str
    kind: str
    title: str
    outcome: Literal["computed", "found"]
    #: Seconds that this pipeline spent on the stage.
    seconds: float
    #: When the pipeline had the result: seconds since the epoch by the worker's clock, or 0 in older records.
    ended: float = 0.0
    worker: str
    record: Record

    @property
    def summary(self) -> str:
        """The record as Flower's Result column shows it."""
        return f"{self.outcome} in {self.seconds:.1f} s · {self.record.summary}"
