"""The last value is kept for the next stage that needs it, and dropped before another one is computed."""

from __future__ import annotations

import pytest

from distill_queue.worker.machine.last_value import LastValue


def test_a_value_is_computed_once_for_each_change_of_its_name() -> None:
    computed: list[str] = []
    last = LastValue[str]()

    def of(name: str) -> str:
        return last.get(name, lambda: computed.append(name) or f"value of {name}")

    assert [of(name) for name in "aabba"] == [f"value of {name}" for name in "aabba"]
    assert computed == ["a", "b", "a"]


def test_of_a_value_that_could_not_be_computed_nothing_is_kept() -> None:
    last = LastValue[int]()
    last.get("first", lambda: 1)

    with pytest.raises(ZeroDivisionError):
        last.get("second", lambda: 1 // 0)

    assert last.get("second", lambda: 2) == 2
