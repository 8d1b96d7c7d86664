"""Exported students in the report."""

from __future__ import annotations

from dataclasses import replace

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.page import Page, filled
from distill_queue.shared.report.sections import cost, exports
from distill_queue.shared.results.export import ExportRecord
from tests.unit.shared.report.conftest import texts


def file(**changes: object) -> ExportRecord:
    values = {
        "format": "onnx", "file": "model.onnx", "size_bytes": 5_000, "samples": 200, "accuracy": 0.9,
        "model_accuracy": 0.9, "agreement": 1.0, "difference": 1e-5, "logits_range": 20.0, "latency_median_ms": 0.25,
        "latency_p95_ms": 0.5, "cold_start_ms": 12.34, "threads": 1, "runtime": "onnxruntime 9.9", "machine": "a chip",
        "operators": {"Relu": 2, "Gemm": 3, "Add": 1},
    }  # fmt: skip
    return ExportRecord.model_validate(values | changes)


def exported(facts: ReportFacts, *files: ExportRecord) -> ReportFacts:
    """The facts with files of the first student."""
    first, *others = facts.students
    score = first.score.model_copy(update={"exports": files})
    return replace(facts, students=(replace(first, score=score), *others))


def test_nothing_is_said_where_nothing_was_exported(facts: ReportFacts) -> None:
    assert exports.section(facts) is None
    assert len(cost.section(facts).pictures) == 2


def test_each_file_has_a_row_with_its_interval_beside_the_students_accuracy(facts: ReportFacts) -> None:
    whole = file(format="onnx-int8", size_bytes=1_400, accuracy=0.89, agreement=0.985, operators={"QLinear": 7})

    section = exports.section(exported(facts, file(), whole))

    assert section is not None
    answers, costs = section.tables
    assert answers.caption == "Answers of the files to 200 test samples"
    assert [[cell.replace("\u00a0", " ") for cell in row] for row in answers.rows] == [
        ["small, onnx", "5,000", "90.00 %", "85.06 to 93.43 %", "90.00 %", "100.00 %", "5.0e-07"],
        ["small, onnx-int8", "1,400", "89.00 %", "83.91 to 92.62 %", "90.00 %", "98.50 %", "5.0e-07"],
    ]
    assert costs.caption == "Costs of the files: onnxruntime 9.9, 1 thread, a chip"
    assert costs.rows[0] == ("small, onnx", "0.250", "0.500", "12.3", "6")
    assert costs.about == ("3 Gemm, 2 Relu, 1 Add", "7 QLinear")
    assert any("Not measured on a phone" in note for note in section.notes)


def test_figures_of_cost_have_the_files_and_compare_bytes(facts: ReportFacts) -> None:
    section = cost.section(exported(facts, file(format="onnx-int8", size_bytes=1_400)))

    size, latency, size_bytes = section.pictures
    assert "file" not in texts(size)
    assert {"file", "small onnx-int8"} <= set(texts(latency))
    assert "small onnx-int8" in texts(size_bytes)
    assert "small onnx-int8 90.0\u00a0% with 1.4k bytes of the file" in size_bytes.says
    assert "onnxruntime 9.9" in section.text


def test_names_of_a_file_are_shown_as_text(facts: ReportFacts) -> None:
    section = exports.section(exported(facts, file(machine="<script>alert(1)</script>", operators={"<b>": 1})))

    assert section is not None
    page = filled(Page("p", (), ("a",), 1, (section,)))
    assert "<script" not in page
    assert "<b>" not in page
