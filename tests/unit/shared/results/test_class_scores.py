"""Scores of classes against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from distill_queue.shared.results.class_scores import ClassScores, confusion_of, imbalanced
from tests.properties import examples

CLASSES = 4


@examples(50)
@given(st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    targets, given_classes = np.array(pairs).T
    every, tested = range(CLASSES), sorted(set(targets.tolist()))

    scores = ClassScores.of(confusion_of(targets, given_classes, CLASSES))

    precision, recall, f1, samples = metrics.precision_recall_fscore_support(
        targets, given_classes, labels=every, zero_division=0.0
    )
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    assert scores.samples.tolist() == samples.tolist()
    among_tested = {"labels": tested, "average": "macro", "zero_division": 0.0}
    assert scores.balanced_accuracy == pytest.approx(metrics.recall_score(targets, given_classes, **among_tested))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(targets, given_classes, **among_tested))


def test_balanced_accuracy_is_scikit_learns_where_all_classes_have_samples() -> None:
    targets, given_classes = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 2])

    scores = ClassScores.of(confusion_of(targets, given_classes, 3))

    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(targets, given_classes))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(targets, given_classes, average="macro"))


def test_a_class_without_test_samples_is_left_out_of_the_means() -> None:
    scores = ClassScores.of(confusion_of(np.array([0, 0, 1]), np.array([0, 2, 1]), 3))

    assert scores.balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("samples", "are"),
    [([892, 1135], False), ([50, 149], False), ([50, 150, 90], True), ([0, 5, 6], False), ([0], False)],
)
def test_classes_are_imbalanced_from_three_times_as_many_samples_on(samples: list[int], are: bool) -> None:
    assert imbalanced(np.array(samples)) == are
