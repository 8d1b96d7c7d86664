"""Which workers leave a task that may run anywhere to others."""

from __future__ import annotations

import time
from typing import Any

import pytest

from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.worker.coordination.gpu_preference import LOOK_SECONDS, GpuPreference

CPU = ("cpu", "any")


@pytest.fixture
def registry(settings: Settings) -> WorkerRegistry:
    """The roster of an empty broker."""
    return WorkerRegistry(connect(settings))


@pytest.fixture
def gpu_preference(settings: Settings, registry: WorkerRegistry) -> GpuPreference:
    """What a worker without a GPU asks."""
    return GpuPreference(connect(settings), registry)


def enter(registry: WorkerRegistry, *queues: str) -> None:
    registry.enter(WorkerEntry.of_this_process("worker@here", queues, "store"), 60.0, "a")


def test_a_task_is_left_once_to_a_worker_with_a_gpu(registry: WorkerRegistry, gpu_preference: GpuPreference) -> None:
    enter(registry, "gpu", "any")

    assert gpu_preference.should_leave("task", "any", "worker", CPU)
    assert not gpu_preference.should_leave("task", "any", "worker", CPU)


@pytest.mark.parametrize(("queue", "serves"), [("cpu", CPU), ("any", ("gpu", "any"))])
def test_what_is_asked_of_this_worker_is_kept(
    registry: WorkerRegistry, gpu_preference: GpuPreference, queue: str, serves: tuple[str, ...]
) -> None:
    enter(registry, "gpu", "any")

    assert not gpu_preference.should_leave("task", queue, "worker", serves)


@pytest.mark.parametrize("queues", [CPU, ("gpu",)])
def test_nothing_is_left_to_workers_that_would_not_take_it_to_a_gpu(
    registry: WorkerRegistry, gpu_preference: GpuPreference, queues: tuple[str, ...]
) -> None:
    enter(registry, *queues)

    assert not gpu_preference.should_leave("task", "any", "worker", CPU)


def test_a_new_gpu_is_known_after_some_seconds_and_many_tasks_cost_one_look(
    settings: Settings, registry: WorkerRegistry, gpu_preference: GpuPreference, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = connect(settings)
    client.config_resetstat()

    before = [gpu_preference.should_leave(f"task-{number}", "any", "worker", CPU) for number in range(5)]
    looks = client.info("commandstats")["cmdstat_exists"]["calls"]
    enter(registry, "gpu", "any")
    later = time.monotonic() + LOOK_SECONDS
    monkeypatch.setattr("distill_queue.worker.coordination.gpu_preference.time.monotonic", lambda: later)

    assert not any(before)
    assert looks == 1
    assert gpu_preference.should_leave("task", "any", "worker", CPU)
