"""What a worker tells the process that started it."""

from __future__ import annotations

import os

import pytest

from distill_queue.shared import starter


def test_after_the_last_word_nothing_that_a_worker_starts_knows_of_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    monkeypatch.setenv(starter.PIPE, str(theirs))

    starter.tell("not yet")
    starter.tell(starter.READY)
    starter.hang_up()
    starter.hang_up()
    starter.tell("too late")

    with os.fdopen(ours) as heard:
        assert heard.read().splitlines() == ["not yet", starter.READY]
    assert starter.PIPE not in os.environ
