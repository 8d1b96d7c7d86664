"""What epochs and points of a grid are compared by."""

from __future__ import annotations

import pytest

from distill_queue.shared.results.measure import Measure, best_place, in_words


@pytest.mark.parametrize(("measure", "place"), [("accuracy", 1), ("macro_f1", 1), ("loss", 0)])
def test_the_best_is_the_first_of_the_highest_and_of_losses_of_the_lowest(measure: Measure, place: int) -> None:
    assert best_place([0.25, 0.75, 0.25, 0.75], measure) == place


@pytest.mark.parametrize(
    ("measure", "words"),
    [("accuracy", "50.0%"), ("balanced_accuracy", "balanced accuracy 50.0%"), ("loss", "loss 0.500")],
)
def test_values_have_their_measures_name_and_unit(measure: Measure, words: str) -> None:
    assert in_words(0.5, measure) == words
