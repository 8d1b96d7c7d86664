"""The tables of scores and costs."""

from __future__ import annotations

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import scores


def test_each_control_stands_below_its_student(facts: ReportFacts) -> None:
    section = scores.section(facts)

    names = [[row[0] for row in table.rows] for table in section.tables]
    assert names == [["teacher", "small", "small/control"], ["teacher", "small"]]


def test_a_model_is_told_by_its_shape_and_training(facts: ReportFacts) -> None:
    section = scores.section(facts)

    assert section.tables[0].about == (
        "mlp 32 · 2 epochs",
        "mlp 8 · T=4 alpha=0.9 · 2 epochs",
        "mlp 8 · 2 epochs",
    )
