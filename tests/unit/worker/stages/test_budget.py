"""What a budget chooses from, and where its verdict stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.sentences import headlines
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.evaluation.scores import score
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.report import candidates
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.conftest import evaluation


def exported(file: str, size_bytes: int, accuracy: float) -> ExportRecord:
    return ExportRecord(
        format=file, file=file, size_bytes=size_bytes, samples=100, accuracy=accuracy, model_accuracy=0.9,
        agreement=1.0, difference=0.0, logits_range=1.0, latency_median_ms=0.5, latency_p95_ms=1.0, cold_start_ms=9.0,
        threads=1, runtime="onnxruntime", machine="x86",
    )  # fmt: skip


def test_a_student_with_files_is_chosen_as_one_of_them_and_one_without_as_it_is_in_torch() -> None:
    runs = tuple(StudentRun(seed=seed, student=evaluation(0.90 + seed / 100), control=None) for seed in (0, 1))
    files = (exported("model.onnx", 400, 0.9), exported("model-int8.onnx", 100, 0.89))
    with_files = score("with", runs, None).model_copy(update={"exports": files})

    found = list(candidates(ReportRecord(teacher=None, students=(with_files, score("without", runs, None)))))

    assert [(each.words, each.size_bytes, each.latency_ms, each.accuracy) for each in found] == [
        ("with as model.onnx", 400, 0.5, 0.9),
        ("with as model-int8.onnx", 100, 0.5, 0.89),
        ("without in torch", 1, 1.0, 0.90),  # The first seed's model, which is the one that can be used.
    ]


def test_the_verdict_is_part_of_the_report_and_the_last_of_its_headlines(
    make_spec: Callable[..., PipelineSpec], tmp_path: Path
) -> None:
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu")), lambda *_: None)
    record = [runner.run(stage).record for stage in Plan.of(make_spec(budget={"bytes": 1})).stages][-1]

    assert isinstance(record, ReportRecord)
    assert record.budget
    assert record.budget.candidates == 1
    assert record.budget.misses == (f"{record.students[0].student.size_bytes - 1:,} bytes too large",)
    assert headlines(record)[-1] == record.budget.summary


def test_a_report_without_a_budget_is_written_as_it_always_was() -> None:
    runs = (StudentRun(seed=0, student=evaluation(0.9), control=None),)
    report = ReportRecord(teacher=None, students=(score("small", runs, None),))

    assert "budget" not in report.model_dump_json()
    assert len(headlines(report)) == 1
