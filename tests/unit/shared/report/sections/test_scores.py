"""The tables of scores and costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import scores
from distill_queue.shared.report.sentences import percent


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


def test_means_over_classes_are_told_where_classes_are_imbalanced_and_only_there(facts: ReportFacts) -> None:
    assert facts.targets is not None
    rare = np.where(facts.targets == 3, np.where(np.arange(len(facts.targets)) < 100, 3, 4), facts.targets)

    plain, told = scores.section(facts), scores.section(replace(facts, targets=rare))

    assert "macro F1" not in plain.tables[0].columns
    assert told.tables[0].columns[1:4] == ("accuracy", "balanced accuracy", "macro F1")
    given = facts.students[0].model.predictions[0].classes
    (row,) = (row for row in told.tables[0].rows if row[0] == "small")
    expected = (balanced_accuracy_score(rare, given), f1_score(rare, given, average="macro"))
    assert row[2:4] == tuple(percent(each, 2) for each in expected)
    assert "means of recall and F1" in told.text
