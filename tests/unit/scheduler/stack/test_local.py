"""The embedded stack: what it refuses, and what it gives up."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.stack.child import WELL_SECONDS, Child
from distill_queue.scheduler.stack.local import MAX_RESTARTS, LocalStack
from distill_queue.shared.errors import DistillError, InvalidSettings, StoreUnavailable
from distill_queue.shared.settings import Settings

WaitUntil = Callable[[Callable[[], Any], str], Any]


@pytest.fixture
def stack(tmp_path: Path) -> LocalStack:
    return LocalStack(Settings(store=str(tmp_path / "store"), broker_url="redis://127.0.0.1:1/0"))


def dead(name: str, folder: Path, wait_until: WaitUntil) -> Child:
    """A child that has died as often as is borne."""
    child = Child(name, [sys.executable, "-c", "print('no port')"], {}, folder / "log", restarts=MAX_RESTARTS)
    child.start()
    wait_until(lambda: not child.alive, "it dies")
    return child


def test_a_port_that_is_taken_is_named_before_anything_starts(stack: LocalStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stack.flower_port = server.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"Flower's port {stack.flower_port}: Address already in use"), stack:
            pass

    assert stack.children == []


def test_all_goes_on_without_flower_and_nothing_without_workers(
    stack: LocalStack, tmp_path: Path, wait_until: WaitUntil
) -> None:
    stack.children.append(dead("flower", tmp_path, wait_until))

    assert (stack.tend() or "").splitlines() == [f"flower died ({tmp_path / 'log'}):", "no port"]
    assert stack.tend() is None
    stack.children.append(dead("worker-1", tmp_path, wait_until))
    with pytest.raises(DistillError, match="worker-1 died"):
        stack.tend()


def test_a_worker_that_was_well_for_a_while_may_die_as_often_as_a_new_one(stack: LocalStack, tmp_path: Path) -> None:
    child = Child("worker-1", ["sleep", "600"], {}, tmp_path / "log", restarts=MAX_RESTARTS)
    stack.children.append(child)
    child.start()
    try:
        stack.tend()
        assert child.restarts == MAX_RESTARTS
        child._started -= WELL_SECONDS
        stack.tend()
        assert child.restarts == 0
    finally:
        child.ask_to_end()
        child.end(float("inf"))


def test_a_worker_whose_settings_are_wrong_is_not_started_again(
    stack: LocalStack, tmp_path: Path, wait_until: WaitUntil
) -> None:
    said = "print('error: DISTILL_X is wrong'); raise SystemExit(2)"
    child = Child("worker-1", [sys.executable, "-S", "-c", said], {}, tmp_path / "log")
    stack.children.append(child)
    child.start()
    wait_until(lambda: not child.alive, "it ends")

    with pytest.raises(InvalidSettings, match="DISTILL_X is wrong"):
        stack.tend()


def test_a_worker_that_says_why_it_ended_is_heard_though_its_log_is_gone(
    stack: LocalStack, tmp_path: Path, wait_until: WaitUntil
) -> None:
    said = "import os; os.write(int(os.environ['DISTILL_STARTER_PIPE']), b'DISTILL_X is wrong\\n'); raise SystemExit(2)"
    for script, why in ((said, "DISTILL_X is wrong"), ("raise SystemExit(2)", "it said nothing")):
        child = Child("worker-1", [sys.executable, "-S", "-c", script], {}, tmp_path / "log")
        stack.children = [child]
        child.start()
        (tmp_path / "log").unlink()
        wait_until(lambda child=child: not child.alive, "it ends")

        with pytest.raises(InvalidSettings, match=why):
            stack.tend()


def test_a_child_whose_log_cannot_be_opened_leaves_no_pipe_open(tmp_path: Path) -> None:
    child = Child("worker-1", [sys.executable, "-c", ""], {}, tmp_path / "no folder" / "log")
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(StoreUnavailable):
        child.start()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_for_flowers_history_that_cannot_be_made_is_named_as_such(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(mode)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    if mode == 0o755:
        assert stack.flower_folder() == tmp_path / "store" / "flower"
        return
    with pytest.raises(InvalidSettings, match=r"no folder for Flower's history: .*/file: .*set XDG_STATE_HOME"):
        stack.flower_folder()
