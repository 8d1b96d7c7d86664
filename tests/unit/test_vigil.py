"""When a child that gives no sign of life is killed, and when not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.pulse import Pulse
from worker.vigil import GONE_SECONDS, LOADING_SECONDS, SHORTEST_SECONDS, Vigil

WaitUntil = Callable[[Callable[[], Any], str], Any]
CHILD = 4711


class Clock:
    """Looks of a main process at its child, each half a second after the last."""

    def __init__(self, limit_seconds: float = 20.0) -> None:
        self.killed: list[int] = []
        self.pulse = Pulse()
        self.vigil = Vigil(self.pulse, limit_seconds, self.killed.append)
        self.now = 1_000.0
        self.vigil.look(CHILD, self.now)

    def passes(self, seconds: float, pid: int | None = CHILD, *, beating: bool = False) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            if beating:
                self.pulse.beat()
            self.vigil.look(pid, self.now)


def test_a_child_that_beats_is_left_alone() -> None:
    clock = Clock()

    clock.passes(100, beating=True)

    assert (clock.killed, clock.vigil.silent_seconds) == ([], 0.0)


def test_a_child_without_a_sign_of_life_is_killed_once_when_its_time_is_over() -> None:
    clock = Clock(limit_seconds=20.0)

    clock.passes(19.5)
    assert clock.killed == []
    clock.passes(2.0)

    assert clock.killed == [CHILD]
    assert clock.vigil.reason(CHILD) == "its process gave no sign of life for 20 s"
    assert clock.vigil.reason(CHILD + 1) == clock.vigil.reason(None) == ""


def test_one_beat_just_in_time_begins_the_count_anew() -> None:
    clock = Clock(limit_seconds=20.0)

    clock.passes(19.5)
    clock.passes(0.5, beating=True)
    clock.passes(19.5)

    assert clock.killed == []


def test_time_in_which_the_main_process_was_stopped_itself_is_not_counted() -> None:
    clock = Clock()

    for _ in range(10):
        clock.now += 3_600.0
        clock.vigil.look(CHILD, clock.now)

    assert clock.killed == []
    assert clock.vigil.silent_seconds == 10.0


def test_loading_libraries_is_borne_with_for_longer_but_not_for_ever() -> None:
    clock = Clock(limit_seconds=20.0)

    with clock.pulse.loading():
        clock.passes(LOADING_SECONDS - 1)
        assert clock.killed == []
        clock.passes(1)

    assert clock.killed == [CHILD]


def test_a_short_visibility_timeout_leaves_time_for_a_burdened_machine() -> None:
    clock = Clock(limit_seconds=1.0)

    clock.passes(SHORTEST_SECONDS - 0.5)
    assert clock.killed == []
    clock.passes(0.5)

    assert clock.killed == [CHILD]


def test_a_child_that_is_still_there_after_it_was_killed_is_stuck_and_its_successor_is_not() -> None:
    clock = Clock(limit_seconds=20.0)
    clock.passes(20)

    clock.passes(GONE_SECONDS - 0.5)
    assert clock.vigil.stuck == ""
    clock.passes(0.5)
    assert f"its process {CHILD} cannot be killed" in clock.vigil.stuck
    clock.passes(0.5, pid=None)

    assert clock.vigil.stuck == ""
    clock.passes(20, pid=CHILD + 1, beating=True)
    assert clock.killed == [CHILD]


def test_a_new_child_is_not_held_to_the_silence_of_the_one_before() -> None:
    clock = Clock(limit_seconds=20.0)

    clock.passes(19.5)
    clock.passes(19.5, pid=CHILD + 1)

    assert clock.killed == []


@pytest.fixture
def beating_child() -> Iterator[tuple[Pulse, int]]:
    """A forked process that beats."""
    pulse = Pulse()
    pid = os.fork()
    if pid == 0:
        pulse.start()
        while True:
            signal.pause()
    yield pulse, pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_forked_child_beats_until_it_is_stopped(beating_child: tuple[Pulse, int], wait_until: WaitUntil) -> None:
    pulse, pid = beating_child
    wait_until(lambda: pulse.beats > 0, "it beats")

    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    before = pulse.beats
    os.kill(pid, signal.SIGCONT)

    wait_until(lambda: pulse.beats > before, "it beats again")
