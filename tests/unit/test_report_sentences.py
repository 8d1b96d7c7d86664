"""What a report says of a student."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.records import EvaluationRecord, StudentRun
from shared.report_sentences import summary
from tests.unit.conftest import evaluation
from worker.scores import score


def said(pairs: Sequence[tuple[float, float | None]], teacher: EvaluationRecord | None) -> str:
    runs = tuple(
        StudentRun(seed=seed, student=evaluation(own), control=None if other is None else evaluation(other))
        for seed, (own, other) in enumerate(pairs)
    )
    return summary(score("small", runs, teacher), teacher).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("pairs", "teacher", "expected"),
    [
        (
            [(0.970, 0.965), (0.972, 0.966), (0.971, 0.964)],
            evaluation(0.983, 530),
            "small: 97.1 %, 1.2 points under its teacher with 5.3x fewer parameters; "
            "the teacher brought +0.6 ± 0.2 over the control, n = 3.",
        ),
        (
            [(0.9, 0.88)],
            evaluation(0.9, 100),
            "small: 90.0 %, as good as its teacher with as many parameters; "
            "the teacher brought +2.0 over the control, one seed.",
        ),
        (
            [(0.9, 0.91)],
            evaluation(0.85, 50),
            "small: 90.0 %, 5.0 points above its teacher with 2.0x more parameters; "
            "the teacher brought less than nothing over the control: -1.0, one seed.",
        ),
        (
            [(0.90, 0.91), (0.92, 0.91), (0.91, 0.911)],
            None,
            "small: 91.0 %; what the teacher brought over the control is inconclusive: -0.0 ± 2.5, n = 3.",
        ),
        (
            [(0.90, 0.91), (0.91, 0.92), (0.92, 0.931)],
            None,
            "small: 91.0 %; the teacher brought less than nothing over the control: -1.0 ± 0.1, n = 3.",
        ),
        (
            [(0.9, 0.9), (0.8, 0.8)],
            None,
            "small: 85.0 %; the teacher brought nothing over the control: +0.0 ± 0.0, n = 2.",
        ),
        (
            [(0.9, None)],
            evaluation(1.0, 100_000),
            "small: 90.0 %, 10.0 points under its teacher with 1,000x fewer parameters; "
            "it has no control, so what the teacher brought is not known.",
        ),
    ],
)
def test_a_student_is_summed_up_in_one_honest_sentence(
    pairs: list[tuple[float, float | None]], teacher: EvaluationRecord | None, expected: str
) -> None:
    assert said(pairs, teacher) == expected
