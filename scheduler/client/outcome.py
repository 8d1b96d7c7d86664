"""Outcome: what came out of a finished pipeline, or why nothing did."""

from __future__ import annotations

from pathlib import Path

from distill_queue.shared.errors import InvalidSettings, PipelineFailed, UnreadableRecord, store_errors
from distill_queue.shared.files.folders import write_whole
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.ledger.status import PipelineStatus, State
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spelling import pipeline_id


def results_of(status: PipelineStatus, advice: str = "") -> PipelineResults:
    """The results of a finished pipeline; `advice` replaces the usual advice about a failed one.

    Raises:
        PipelineFailed: it failed, or is not finished; the message says why.
        UnreadableRecord: it is done, and this version cannot read its results.

    """
    if status.state == State.CANCELLED:
        raise PipelineFailed(f"{status.id} was cancelled: 'distill retry {status.id}' submits it again")
    if status.state == State.FAILED:
        errors = "\n".join(status.errors)
        advice = advice or f"see 'distill logs {status.id}', then 'distill retry {status.id}'"
        raise PipelineFailed(f"{status.id} failed: {errors}: {advice}")
    report = status.states[status.plan.report.key].record
    if report is None or not isinstance(report.record, ReportRecord):
        if status.state == State.DONE:
            why = status.states[status.plan.report.key].progress
            raise UnreadableRecord(f"{status.id} is done, but its results cannot be read: report: {why}")
        raise PipelineFailed(f"{status.id} is {status.state}: 'distill watch {status.id}' follows it")
    if not report.record.students:
        raise PipelineFailed(f"{status.id} has no results: it is trainings of 'distill tune', which reads them itself")
    stages = tuple(state.record for state in status.states.values() if state.record)
    return PipelineResults.of(status.id, status.plan, report.record, stages, status.warnings)


def kept_file(settings: Settings, pipeline: str) -> Path:
    """Where `distill run` writes the results of a pipeline, as its broker ends with it.

    Raises:
        UnknownPipeline: no pipeline has such an id.

    """
    return settings.folder / "reports" / f"{pipeline_id(pipeline)}.json"


def keep_results(settings: Settings, results: PipelineResults) -> Path:
    """Write results where `kept_results` finds them when their broker is gone; return the path.

    Raises:
        InvalidSettings: the file cannot be written.

    """
    path = kept_file(settings, results.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, results.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror or error}") from error
    return path


def kept_results(settings: Settings, pipeline: str) -> PipelineResults | None:
    """The results that `distill run` has written; None if it has written none of this id.

    Raises:
        UnknownPipeline: no pipeline has such an id.
        StoreUnavailable: the file cannot be read.
        UnreadableRecord: the file is not what this version writes.

    """
    path = kept_file(settings, pipeline)
    with store_errors(path):
        if not path.is_file():
            return None
        text = path.read_bytes()
    return PipelineResults.read(text, str(path))
