"""What a folder for the hub says of its licence."""

from __future__ import annotations

from distill_queue.scheduler.exports.hub import _licence


def test_a_licence_that_the_hub_knows_is_named_as_it_names_it() -> None:
    assert _licence("CC-BY-4.0") == {"license": "cc-by-4.0"}


def test_another_licence_gets_a_name_and_none_says_nothing() -> None:
    assert _licence("My own: words!") == {"license": "other", "license_name": "my-own-words"}
    assert _licence("") == {}
