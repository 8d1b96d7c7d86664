"""The scores of a pipeline's models."""

from __future__ import annotations

from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.worker.evaluation.scores import score
from tests.unit.conftest import evaluation


def test_models_that_are_built_alike_have_the_latency_of_the_fastest() -> None:
    def measured(latency_ms: float, **changes: object) -> EvaluationRecord:
        return evaluation(0.9).model_copy(update={"latency_median_ms": latency_ms, **changes})

    runs = (
        StudentRun(seed=0, student=measured(0.03), control=measured(0.04)),
        StudentRun(seed=1, student=measured(0.05), control=measured(0.02)),
        StudentRun(seed=2, student=measured(0.01, device="cuda"), control=measured(0.01, multiply_adds=7)),
    )
    scores = ReportRecord(teacher=measured(0.001, parameters=999), students=(score("small", runs, None),))

    assert {
        scores.fastest(each).latency_median_ms for run in runs[:2] for each in (run.student, run.control) if each
    } == {0.02}
    assert scores.fastest(runs[2].student).latency_median_ms == 0.01
    assert scores.teacher
    assert scores.fastest(scores.teacher).latency_median_ms == 0.001
