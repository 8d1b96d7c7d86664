"""What a machine offers to workers, and what happens to workers that die."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.scheduler.stack.child import WELL_SECONDS, Child
from distill_queue.scheduler.stack.devices import Device, devices
from distill_queue.scheduler.stack.fleet import LONGEST_WAIT_SECONDS, MOST_STARTS, Berth, Fleet
from distill_queue.shared.errors import DistillError, InvalidSettings, Unavailable
from distill_queue.shared.starter import PIPE


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        ("auto", [], {"cpu": ("cpu", "any")}),
        ("auto", ["0", "1"], {"cuda-0": ("gpu", "any"), "cuda-1": ("gpu", "any"), "cpu": ("cpu", "any")}),
        ("cpu:2", ["0"], {"cpu-1": ("cpu", "any"), "cpu-2": ("cpu", "any")}),
        ("cuda:1", ["0", "1"], {"cuda-1": ("gpu", "any")}),
        ("cpu+cuda:0,1", ["0", "1"], {"cuda-0": ("gpu", "any"), "cuda-1": ("gpu", "any"), "cpu": ("cpu", "any")}),
    ],
)
def test_each_device_has_a_worker_with_its_queues(
    text: str, gpus: list[str], expected: dict[str, tuple[str, ...]]
) -> None:
    assert {device.name: device.queues for device in devices(text, gpus=gpus)} == expected


def test_a_worker_sees_its_own_gpu_and_no_other() -> None:
    seen = {device.name: device.environment["CUDA_VISIBLE_DEVICES"] for device in devices("auto", gpus=["0", "1"])}

    assert seen == {"cuda-0": "0", "cuda-1": "1", "cpu": ""}


def test_cores_are_shared_out_unless_threads_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_queue.scheduler.stack.devices.cores", lambda: 8)

    shared = {device.threads for device in devices("cpu:3", gpus=[])}
    given = {device.threads for device in devices("cpu:3", threads=5, gpus=[])}

    assert (shared, given) == ({2}, {5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda:2", "no cuda:2 on this machine (there: cuda:0, cuda:1)"),
        ("cuda:0,0", "names a GPU twice"),
        ("gpu", "cannot read 'gpu': use auto"),
        ("cpu:0", "cannot read 'cpu:0'"),
        ("", "cannot read ''"),
    ],
)
def test_devices_that_are_not_there_or_mean_nothing_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidSettings) as error:
        devices(text, gpus=["0", "1"])

    assert message in str(error.value)


def dies(code: int, *words: str) -> Child:
    """A process that tells its starter something and ends."""
    text = "".join(f"{word}\n" for word in words)
    tell = f"import os, sys; os.write(int(os.environ['{PIPE}']), {text.encode()!r}); sys.exit({code})"
    return Child("dies", [sys.executable, "-S", "-c", tell], {}, log=None)


def tend_to_the_end(fleet: Fleet, worker: Child, clock: list[float], wait_until: Callable[..., Any]) -> int:
    """How often a fleet starts a worker until it gives up; raises the fleet's error."""
    (berth,) = [berth for berth in fleet.berths if berth.worker is worker]
    for starts in range(100):
        if berth not in fleet.berths:
            return starts
        clock[0] += LONGEST_WAIT_SECONDS
        fleet.tend()
        wait_until(lambda: not worker.alive, "it dies")
        fleet.tend()
    raise AssertionError("it is started for ever")


@pytest.mark.parametrize(
    ("code", "kind", "starts"),
    [(2, InvalidSettings, "once"), (3, Unavailable, f"{MOST_STARTS} times"), (1, DistillError, f"{MOST_STARTS} times")],
)
def test_a_worker_that_never_comes_to_work_is_given_up_with_its_reason_and_the_kind_of_its_exit_code(
    wait_until: Callable[..., Any], code: int, kind: type[DistillError], starts: str
) -> None:
    worker, clock = dies(code, "DISTILL_X: is wrong"), [0.0]
    fleet = Fleet([Berth(Device("cpu", ("any",), 1), worker)], lambda _: None, now=lambda: clock[0])

    with pytest.raises(DistillError) as raised:
        tend_to_the_end(fleet, worker, clock, wait_until)

    assert type(raised.value) is kind
    ended = f"it was started {starts} and ended before it worked (exit code {code})"
    assert str(raised.value) == f"dies is given up: {ended}: DISTILL_X: is wrong"


def test_the_other_workers_go_on_without_one_that_is_given_up(wait_until: Callable[..., Any]) -> None:
    worker, well, clock, told = dies(1), Child("well", ["sleep", "600"], {}, log=None), [0.0], []
    berths = [Berth(Device(name, ("any",), 1), child) for name, child in (("a", worker), ("b", well))]
    fleet = Fleet(berths, told.append, now=lambda: clock[0])

    try:
        starts = tend_to_the_end(fleet, worker, clock, wait_until)

        assert starts == MOST_STARTS
        assert well.alive
    finally:
        well.ask_to_end()
        well.end(float("inf"))
    assert told[-1].startswith("dies is given up: it was started 5 times")
    assert told[-1].endswith("(exit code 1): what it said stands above; the other workers go on")


def test_a_worker_that_dies_is_started_again_after_ever_longer_waits(wait_until: Callable[..., Any]) -> None:
    clock, told = [0.0], []
    worker = dies(3, "ready")
    fleet = Fleet([Berth(Device("cpu", ("any",), 1), worker)], told.append, now=lambda: clock[0])

    waits = []
    for _ in range(9):
        fleet.tend()
        wait_until(lambda: not worker.alive, "it dies")
        fleet.tend()
        waits.append(fleet.berths[0].due - clock[0])
        clock[0] = fleet.berths[0].due
    fleet.tend()
    wait_until(lambda: not worker.alive, "it dies")
    clock[0] += WELL_SECONDS
    fleet.tend()

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(waits) == LONGEST_WAIT_SECONDS
    assert fleet.berths[0].due == clock[0] + 1
    assert "dies died (exit code 3): starts again in 2 s" in told


def test_a_worker_that_has_died_is_not_started_before_its_time(wait_until: Callable[..., Any]) -> None:
    worker, told = Child("dies", [sys.executable, "-c", ""], {}, log=None), []
    fleet = Fleet([Berth(Device("cpu", ("any",), 1), worker)], told.append, now=lambda: 0.0)

    fleet.tend()
    wait_until(lambda: not worker.alive, "it ends")
    for _ in range(3):
        fleet.tend()

    assert [line.partition(" (")[0] for line in told] == ["dies started", "dies died"]
