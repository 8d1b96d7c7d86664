"""Which student a budget chooses, and what it says where none fits."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.results.budget import BudgetVerdict, Candidate, Limits, verdict


def candidate(name: str, size_bytes: int = 10, latency_ms: float = 1.0, accuracy: float = 0.9) -> Candidate:
    return Candidate(
        student=name, file="model.onnx", size_bytes=size_bytes, latency_ms=latency_ms, accuracy=accuracy, samples=1000
    )


def chosen(candidates: list[Candidate], **limits: Any) -> BudgetVerdict:
    found = verdict(Limits(**limits), tuple(candidates))
    assert found
    return found


def test_the_most_accurate_that_fits_is_named_not_the_smallest() -> None:
    small, accurate = candidate("small", 10, accuracy=0.90), candidate("accurate", 90, accuracy=0.95)

    found = chosen([small, accurate, candidate("too large", 101, accuracy=0.99)], bytes=100)

    assert found.named == accurate
    assert (found.fitting, found.candidates, found.misses) == (2, 3, ())


def test_of_two_that_are_as_accurate_the_one_with_fewer_bytes_is_named() -> None:
    assert chosen([candidate("a", 90), candidate("b", 80), candidate("c", 85)], bytes=100).named.student == "b"


@pytest.mark.parametrize("limits", [{"bytes": 100}, {"latency_ms": 2.0}, {"accuracy": 97.0}, {"accuracy": 97}])
def test_what_is_at_the_limit_fits(limits: dict[str, Any]) -> None:
    assert chosen([candidate("a", 100, 2.0, 0.97)], **limits).fitting == 1


@pytest.mark.parametrize(("right", "limit"), [(right, limit) for right in range(1001) for limit in (right / 10,)][::37])
def test_rounding_makes_no_accuracy_miss_a_limit_that_it_has(right: int, limit: float) -> None:
    assert chosen([candidate("a", accuracy=right / 1000)], accuracy=limit).fitting == 1
    assert chosen([candidate("a", accuracy=(right - 1) / 1000)], accuracy=limit).fitting == 0


def test_every_limit_counts() -> None:
    limits = {"bytes": 100, "latency_ms": 2.0, "accuracy": 97.0}

    for misfit in (
        candidate("a", 101, 2.0, 0.97),
        candidate("a", 100, 2.1, 0.97),
        candidate("a", 100, 2.0, 0.969),
    ):
        assert chosen([misfit], **limits).fitting == 0


def test_where_none_fits_the_nearest_is_named_with_all_that_it_misses() -> None:
    far = candidate("far", 250, 0.5, 0.99)
    near = candidate("near", 120, 2.5, 0.965)

    found = chosen([far, near], bytes=100, latency_ms=2.0, accuracy=97)

    assert found.named == near
    assert found.misses == ("20 bytes too large", "0.5 ms too slow", "0.5 points short of the accuracy")


def test_points_under_an_accuracy_weigh_by_how_many_more_answers_are_wrong() -> None:
    wrong_twice_as_often = candidate("wrong", 100, accuracy=0.94)

    half_as_large_again = candidate("large", 150, accuracy=0.97)

    assert chosen([wrong_twice_as_often, half_as_large_again], bytes=100, accuracy=97).named == half_as_large_again


def test_nobody_reaches_an_accuracy_of_100_per_cent_but_the_nearest_is_told() -> None:
    found = chosen([candidate("a", accuracy=0.9), candidate("b", accuracy=0.99)], accuracy=100)

    assert (found.named.student, found.misses) == ("b", ("1 points short of the accuracy",))


def test_the_verdict_says_how_far_chance_reaches_and_that_the_test_set_chose() -> None:
    found = chosen([candidate("a", 35_000, 0.0712, 0.974), candidate("b", accuracy=0.9)], bytes=50_000, accuracy=90)

    assert found.summary == (
        "Budget (at most 50,000 bytes, at least 90%): a as model.onnx, 35,000 bytes, 0.0712 ms, 97.40% "
        "(96.2 to 98.2 at 95% confidence): the most accurate of 2 that fit, of 2. "
        "Chosen on the test set: expect a little less accuracy on new data."
    )


def test_one_that_alone_fits_was_not_chosen_among_others() -> None:
    found = chosen([candidate("a"), candidate("b", 99)], bytes=50)

    assert found.summary.endswith(": the only one that fits, of 2.")


def test_the_verdict_says_what_the_nearest_misses() -> None:
    found = chosen([candidate("a", 99), candidate("b", 60, accuracy=0.85)], bytes=50)

    assert found.summary == (
        "Budget (at most 50 bytes): none of 2 fits; the nearest is b as model.onnx, 60 bytes, 1 ms, 85.00% "
        "(82.7 to 87.1 at 95% confidence): 10 bytes too large."
    )


def test_a_verdict_is_read_again_as_it_was_written() -> None:
    found = chosen([candidate("a", 99)], bytes=50)

    assert BudgetVerdict.model_validate_json(found.model_dump_json()) == found
    assert "latency_ms" not in found.model_dump()["limits"]


def test_without_candidates_there_is_no_verdict() -> None:
    assert verdict(Limits(bytes=1), ()) is None
