"""What a run's end says of exported files."""

from __future__ import annotations

from distill_queue.scheduler.cli.exports import lines_of
from distill_queue.shared.results.export import ExportRecord

RECORD = ExportRecord(
    format="onnx", file="model.onnx", size_bytes=408_331, samples=1_000, accuracy=0.917, model_accuracy=0.917,
    agreement=1.0, difference=0.0, logits_range=20.0, latency_median_ms=0.02, latency_p95_ms=0.03, cold_start_ms=10.0,
    threads=1, runtime="onnxruntime 1.32.0", machine="a processor",
)  # fmt: skip


def test_each_file_has_a_line_and_the_first_student_with_one_is_the_example() -> None:
    lines = lines_of("digits-0123abcd", {"alone": (), "small": (RECORD,)})

    assert lines == [
        "Exported: small, model.onnx, 408,331 bytes, 91.70% on 1,000 test samples, 100.00% agree with the student",
        "Next: 'distill export digits-0123abcd small' writes a folder, then: python small/predict.py",
    ]


def test_a_run_without_an_export_says_nothing_of_it() -> None:
    assert lines_of("digits-0123abcd", {"small": ()}) == []


def test_a_file_that_no_program_in_the_folder_runs_is_not_called_to_be_run() -> None:
    for_phones = RECORD.model_copy(update={"file": "model.pte"})

    assert lines_of("digits-0123abcd", {"small": (for_phones,)})[-1] == (
        "Next: 'distill export digits-0123abcd small' writes a folder"
    )
