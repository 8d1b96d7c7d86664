"""Ranges: what is one, and who refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.ranges import Between, ranges
from tests.conftest import small_spec


def test_ranges_are_found_with_their_places() -> None:
    found = list(ranges({"a": {"b": {"between": [1, 2]}}, "c": [{"between": 3}], "d": 4}))

    assert found == [(("a", "b"), {"between": [1, 2]}), (("c", 0), {"between": 3})]


def test_an_option_of_own_code_may_be_named_between() -> None:
    assert not list(ranges({"model": {"name": "mine:model", "options": {"between": [1, 2]}}}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"between": [2, 1]}, "the lower end comes first: 2 is not below 1"),
        ({"between": [1, 1]}, "the lower end comes first"),
        ({"between": [1]}, "a range is two numbers"),
        ({"between": [1, True]}, "a range is two numbers"),
        ({"between": ["a", "b"]}, "a range is two numbers"),
        ({"between": [1, float("inf")]}, "a range is two numbers"),
        ({"between": [1, 2], "scale": "cubic"}, "the scale of a range is 'linear' or 'log'"),
        ({"between": [0, 2], "scale": "log"}, "a range by logarithms begins above 0"),
        ({"between": [1, 2], "step": 1}, "a range has the keys 'between' and 'scale' only"),
    ],
)
def test_what_is_no_range_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Between.of(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"students": [{"name": "small", "distillation": {"temperature": {"between": [1, 20]}}}]},
            r"students\[0\].distillation.temperature: a range is for 'distill tune', in a student: .* or a grid",
        ),
        (
            {"dataset": {"name": "digits", "validation": {"between": [0.1, 0.2]}}},
            r"dataset.validation: a range is for 'distill tune', in a student: write a value$",
        ),
    ],
)
def test_a_pipeline_takes_no_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        PipelineSpec.of(small_spec(**changes))
