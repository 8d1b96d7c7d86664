"""What a report says of a student."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from distill_queue.shared.report.sentences import headlines, samples, summary
from distill_queue.shared.results.records import ChoiceRecord, DatasetRecord, EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.worker.evaluation.scores import score
from tests.unit.conftest import evaluation


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
            "+2.0 over the control; one seed: not told apart from chance.",
        ),
        (
            [(0.9, 0.91)],
            evaluation(0.85, 50),
            "small: 90.0 %, 5.0 points above its teacher with 2.0x more parameters; "
            "-1.0 over the control; one seed: not told apart from chance.",
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


def test_of_many_students_the_best_has_a_sentence_and_few_are_named() -> None:
    accuracies = {f"s{number}": 0.9 + number / 1000 for number in range(12)}
    students = tuple(
        score(name, (StudentRun(seed=0, student=evaluation(own), control=evaluation(0.9)),), None)
        for name, own in accuracies.items()
    )

    lines = [line.replace("\u00a0", " ") for line in headlines(ReportRecord(teacher=None, students=students))]

    assert lines == [
        "s11: 91.1 %; +1.1 over the control; one seed: not told apart from chance.",
        "s10: 91.0 %, +1.0 over the control (one seed).",
        "s9: 90.9 %, +0.9 over the control (one seed).",
        "and 9 more in the table.",
    ]


def test_samples_are_told_with_what_they_are_for() -> None:
    record = DatasetRecord(
        shape=(4,), class_names=("a", "b"), train_samples=1200, labelled_samples=1200, validation_samples=0,
        test_samples=300, mean=(0.0,), std=(1.0,),
    )  # fmt: skip

    assert samples(record) == "1,200 training samples; 300 test samples; 2 classes"
    assert samples(record.model_copy(update={"labelled_samples": 9, "validation_samples": 60})) == (
        "1,200 training samples, 9 of them with a label; 60 held out to choose by; 300 test samples; 2 classes"
    )


def test_a_best_point_says_when_others_are_as_good() -> None:
    choice = ChoiceRecord(labels=("a 1", "a 2", "a 3"), held_out=(0.8, 0.9, 0.9), trained={})

    assert choice.summary == "a 2: 90.00% held out, best of 3, the first of 2 equal ones"
    assert choice.model_copy(update={"held_out": (0.7, 0.9, 0.8)}).tie == ""


def test_a_student_of_an_assistant_is_told_beside_the_pipelines_teacher() -> None:
    runs = tuple(
        StudentRun(seed=seed, student=evaluation(0.97 + seed / 1000), control=evaluation(0.96)) for seed in range(3)
    )
    taught = score("small", runs, evaluation(0.983, 530)).model_copy(update={"teacher": "medium"})

    assert summary(taught, evaluation(0.983, 530)).replace("\u00a0", " ") == (
        "small, taught by medium: 97.1 %, 1.2 points under the pipeline's teacher with 5.3x fewer parameters; "
        "medium brought +1.1 ± 0.2 over the control, n = 3."
    )
