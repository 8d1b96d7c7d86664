"""Finished stages: enters what a task found or computed into its pipeline's ledger, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from celery.utils.log import get_task_logger

from distill_queue.shared.errors import UnknownPipeline, UnreadableRecord
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.plan.stage import Bundle, Stage
from distill_queue.shared.results.stage_record import Record, StageRecord, warnings_of
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker.telemetry.log_capture import LogCapture
from distill_queue.worker.telemetry.metrics import Metrics

#: How a stage came by its artifact.
Origin = Literal["found", "computed"]
#: Called with each stage as soon as it has its artifact. The number says how many stages share the seconds since the
#: last call: of a bundle that was computed side by side, this one and those that are still to come.
EnterFinished = Callable[[Stage, Artifact, Origin, int], None]

logger = get_task_logger(__name__)


@dataclass(slots=True)
class FinishedStages:
    """Those stages of a task that have their artifacts."""

    pipeline: str
    worker: str
    ledger: Ledger
    logs: PipelineLogs
    metrics: Metrics
    capture: LogCapture
    #: By key.
    records: dict[str, StageRecord] = field(default_factory=dict)
    #: The devices on which stages were computed, in order.
    devices: list[str] = field(default_factory=list)
    #: When the last stage was entered, by the monotonic clock.
    _last: float = field(default_factory=time.monotonic)

    def enter(self, stage: Stage, artifact: Artifact, origin: Origin, sharing: int) -> None:
        """Enter a stage into the ledger, with its share of the seconds since the last one."""
        record = self._record(stage, artifact, origin, sharing)
        self.metrics.note("stages", stage.kind, origin)
        if origin == "computed":
            self.metrics.note("stage_seconds", stage.kind, value=artifact.manifest.seconds)
            self.devices.append(artifact.manifest.provenance.device)
        with self.capture.about((stage.key,)):
            if origin == "found":
                found = partial(self.logs.add, pipeline=self.pipeline, line=self.capture.line(record.summary))
                self.records[stage.key] = self.ledger.finish(self.pipeline, record, found)
            else:  # After all that was said while it was computed.
                self.records[stage.key] = self.ledger.finish(self.pipeline, record)
                self.capture.note(record.summary)
            self._warn(stage, artifact.record)

    def unfinished(self, bundle: Bundle) -> Bundle:
        """The stages of the task's bundle that have no artifact yet."""
        return tuple(stage for stage in bundle if stage.key not in self.records)

    def summary(self, bundle: Bundle) -> str:
        """What Flower shows as the result of a task all of whose stages are finished."""
        return "; ".join([*(self.records[stage.key].summary for stage in bundle), *dict.fromkeys(self.devices)])

    def _record(self, stage: Stage, artifact: Artifact, origin: Origin, sharing: int) -> StageRecord:
        now = time.monotonic()
        seconds = (now - self._last) / sharing
        self._last += seconds
        return StageRecord(
            key=stage.key,
            kind=stage.kind,
            title=stage.title,
            outcome=origin,
            seconds=seconds,
            ended=time.time() - (now - self._last),
            worker=self.worker,
            record=artifact.record,
        )

    def _warn(self, stage: Stage, record: Record) -> None:
        """Log what a stage warns of, as far as its pipeline's spec does not accept it."""
        if warnings := warnings_of(record):
            accepted: tuple[str, ...] = ()
            with suppress(UnknownPipeline, UnreadableRecord):  # Forgotten, or written by another version.
                accepted = self.ledger.status(self.pipeline).plan.accept
            for warning in warnings:
                if warning.kind not in accepted:
                    logger.warning("%s: %s: %s (%s)", self.pipeline, stage.title, warning.text, warning.kind)
