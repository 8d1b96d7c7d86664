"""The table of exported students."""

from __future__ import annotations

import io

from rich.console import Console

from distill_queue.scheduler.tables.score_tables import exports_table
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.worker.evaluation.scores import score
from tests.unit.conftest import evaluation


def results(*files: ExportRecord) -> PipelineResults:
    small = score("small", (StudentRun(seed=0, student=evaluation(0.9, 10), control=None),), None)
    scores = ReportRecord(teacher=None, students=(small.model_copy(update={"exports": files}),))
    return PipelineResults(id="tiny-1", name="tiny", scores=scores, stages=())


def test_a_file_has_a_row_with_its_interval_and_where_it_was_measured() -> None:
    file = ExportRecord(
        format="onnx", file="model.onnx", size_bytes=5_000, samples=200, accuracy=0.9, model_accuracy=0.9,
        agreement=1.0, difference=0.0, logits_range=20.0, latency_median_ms=0.25, latency_p95_ms=0.5,
        cold_start_ms=12.34, threads=2, runtime="onnxruntime 9.9", machine="a chip",
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=120)

    console.print(exports_table(results(file)))

    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "small │ onnx │ 5,000 │ 90.00% │ 85.1 to 93.4 │ 100.00% │ 0.250 │ 0.500 │ 12.3" in text
    assert "onnxruntime 9.9, 2 threads, a chip; not measured on a phone" in text


def test_without_exports_there_is_no_table() -> None:
    assert exports_table(results()) is None
