"""When a child that gives no sign of life is killed, and when not."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from distill_queue.worker.coordination.pulse import Pulse
from distill_queue.worker.process.watchdog import GONE_SECONDS, LOADING_SECONDS, SHORTEST_SECONDS, Watchdog

WaitUntil = Callable[[Callable[[], Any], str], Any]
CHILD = 4711


class Clock:
    """Looks of a main process at its child, each half a second after the last."""

    def __init__(self, limit_seconds: float = 20.0) -> None:
        self.killed: list[int] = []
        self.pulse = Pulse()
        self.watchdog = Watchdog(self.pulse, limit_seconds, self.killed.append)
        self.now = 1_000.0
        self.watchdog.look(CHILD, self.now)

    def passes(self, seconds: float, pid: int | None = CHILD, *, beating: bool = False) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            if beating:
                self.pulse.beat()
            self.watchdog.look(pid, self.now)


def test_a_child_that_beats_is_left_alone() -> None:
    clock = Clock()

    clock.passes(100, beating=True)

    assert (clock.killed, clock.watchdog.silent_seconds) == ([], 0.0)


def test_a_child_without_a_sign_of_life_is_killed_once_when_its_time_is_over() -> None:
    clock = Clock(limit_seconds=20.0)

    clock.passes(19.5)
    assert clock.killed == []
    clock.passes(2.0)

    assert clock.killed == [CHILD]
    assert clock.watchdog.reason(CHILD) == "its process gave no sign of life for 20 s"
    assert clock.watchdog.reason(CHILD + 1) == clock.watchdog.reason(None) == ""


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
        clock.watchdog.look(CHILD, clock.now)

    assert clock.killed == []
    assert clock.watchdog.silent_seconds == 10.0


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
    assert clock.watchdog.stuck == ""
    clock.passes(0.5)
    assert f"its process {CHILD} cannot be killed" in clock.watchdog.stuck
    clock.passes(0.5, pid=None)

    assert clock.watchdog.stuck == ""
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


def test_a_worker_without_a_child_starts_no_thread() -> None:
    threads = threading.active_count()

    Pulse().start()

    assert threading.active_count() == threads


@pytest.fixture
def holding_child(request: pytest.FixtureRequest) -> Iterator[tuple[Pulse, int]]:
    """A forked process that beats, and then keeps Python's interpreter lock for some seconds, over and over."""
    pulse = Pulse()
    begins, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        pulse.start()
        libc = ctypes.PyDLL(None)  # Its calls, unlike those of CDLL, keep the lock.
        while pulse.beats == 0:
            time.sleep(0.01)
        while True:
            os.write(begun, b".")
            libc.usleep(int(request.param * 1_000_000))
            beats = pulse.beats
            while pulse.beats == beats:
                time.sleep(0.01)
    os.read(begins, 1)
    yield pulse, pid
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(begins)
    os.close(begun)


@pytest.mark.parametrize(
    ("holding_child", "silent_seconds", "killed"), [(0.4, 19.5, False), (60.0, 20.5, True)], indirect=["holding_child"]
)
def test_a_child_that_keeps_the_interpreter_lock_is_killed_only_where_it_does_so_for_too_long(
    holding_child: tuple[Pulse, int], wait_until: WaitUntil, silent_seconds: float, killed: bool
) -> None:
    pulse, pid = holding_child
    watchdog, now = Watchdog(pulse, limit_seconds=20.0), 1_000.0

    for _ in range(1 + round(silent_seconds / 0.5)):  # By the watchdog's clock; the child does not wake meanwhile.
        watchdog.look(pid, now)
        now += 0.5

    if killed:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        return
    beats = pulse.beats
    wait_until(lambda: pulse.beats > beats, "it beats again")
    watchdog.look(pid, now)
    assert watchdog.silent_seconds == 0.0
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
