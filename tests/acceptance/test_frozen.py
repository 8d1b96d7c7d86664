"""A worker's child that is stopped or hangs, and gives no sign of life though it is there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.scheduler.tables.tables import workers_table
from distill_queue.shared.broker.celery_app import lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.process.watchdog import SHORTEST_SECONDS
from tests.acceptance.conftest import lines_of, pool_process, teacher_weights, with_workers
from tests.hung_mount import can_mount, hung_mount

WaitUntil = Callable[[Callable[[], Any], str], Any]
TrainingWorker = Callable[[LocalStack, PipelineClient, str], Child]


def finish(client: PipelineClient, pipeline: str) -> str:
    *_, status = client.watch(pipeline)
    return status.state


def told(client: PipelineClient, stack: LocalStack, pipeline: str) -> str:
    """What the pipeline's log says, as one text."""
    logs = PipelineLogs(connect(stack.settings), stack.settings.history_seconds)
    return "\n".join(line.message for line in logs.read(pipeline))


def test_a_stopped_child_is_killed_and_another_goes_on_to_the_same_weights(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    wait_until: WaitUntil,
    undisturbed: bytes,
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    key = client.status(pipeline).plan.trunk[1].key
    child = pool_process(worker)

    child.suspend()
    wait_until(
        lambda: client.status(pipeline).states[key].progress.startswith("no sign of life for "), "people are told"
    )

    assert finish(client, pipeline) == "done"
    assert not child.is_running()
    assert "the process was killed: its process gave no sign of life for " in told(client, stack, pipeline)
    assert lines_of(stack, "train teacher: begins on", "attempt 2")
    assert lines_of(stack, "goes on from step")
    assert teacher_weights(stack, client, pipeline) == undisturbed


def test_a_worker_that_was_paused_as_a_whole_is_innocent_when_it_goes_on(
    stack: LocalStack, client: PipelineClient, make_spec: Callable[..., PipelineSpec], wait_until: WaitUntil
) -> None:
    workers = stack.children[1:]
    wait_until(lambda: len(client.workers()) == 2, "both workers are there")
    children = [pool_process(worker) for worker in workers]
    paused = [*(psutil.Process(worker.pid) for worker in workers), *children]

    for process in paused:
        process.suspend()
    over = time.monotonic() + SHORTEST_SECONDS + 1
    wait_until(lambda: time.monotonic() > over, "they were silent for longer than a child may be that is looked at")
    for process in paused:
        process.resume()

    assert finish(client, client.submit(make_spec()).id) == "done"
    assert [pool_process(worker) for worker in workers] == children
    assert not lines_of(stack, "exited with")


def test_a_worker_that_is_told_to_end_does_so_soon_though_its_child_is_stopped(
    start_stack: Callable[..., LocalStack],
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    wait_until: WaitUntil,
    undisturbed: bytes,
) -> None:
    # Else the message goes to the other worker by time, while the first one ends.
    stack = start_stack(workers=2, settings={"visibility_timeout_seconds": 20.0})
    client = PipelineClient(stack.settings)
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    child = pool_process(worker)
    assert worker.pid is not None

    child.suspend()
    os.kill(worker.pid, signal.SIGTERM)
    wait_until(lambda: not worker.alive, "the worker ends")

    assert not child.is_running()
    assert finish(client, pipeline) == "done"
    assert "killed: the worker ends; another one goes on" in told(client, stack, pipeline)
    assert lines_of(stack, "train teacher: begins on", "attempt 1")
    assert not lines_of(stack, "train teacher: begins on", "attempt 2"), "it was not the stage that ended it"
    assert teacher_weights(stack, client, pipeline) == undisturbed


@pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")
def test_what_a_child_in_uninterruptible_sleep_was_at_is_handed_on_and_its_worker_says_that_it_cannot_work(
    stack: LocalStack,
    client: PipelineClient,
    make_spec: Callable[..., PipelineSpec],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    with hung_mount(tmp_path / "mount") as mount:
        options = {"how": "hung", "path": str(mount / "file")}
        pipeline = client.submit(make_spec(dataset={"name": "misbehaving:data", "options": options})).id
        key = client.status(pipeline).plan.trunk[0].key
        wait_until(lambda: client.status(pipeline).states[key].state == "running", "it begins")
        stuck_name = client.status(pipeline).states[key].worker.partition("@")[0]

        assert finish(client, pipeline) == "done"

        (stuck,) = (worker for worker in stack.children if worker.name == stuck_name)
        child = pool_process(stuck)
        assert child.status() == psutil.STATUS_DISK_SLEEP
        assert not client.status(pipeline).states[key].worker.startswith(stuck_name)
        entry = wait_until(lambda: next((e for e in client.workers() if e.trouble), None), "its worker says so")
        assert entry.name.startswith(stuck_name)
        assert entry.queues == ()
        assert f"its process {child.pid} cannot be killed" in entry.trouble
        assert [f.state for f in examine(stack.settings) if f.subject == entry.name] == ["bad"]
        assert "cannot be killed" in str(workers_table([entry]).columns[3]._cells)
        assert finish(client, client.submit(make_spec(name="next")).id) == "done", "the other worker does all"
        assert stuck.alive

    wait_until(lambda: not stuck.alive, "once its child is gone, the worker ends, to be started again")
    assert stuck.exit_code == 1, "some supervisors start only what failed again"
    assert len(lines_of(stack, "lease", key, "taken")) == 2


@with_workers(1)
@pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")
def test_a_worker_whose_child_cannot_be_killed_ends_when_it_is_told_to_and_hands_back_its_message(
    stack: LocalStack,
    client: PipelineClient,
    make_spec: Callable[..., PipelineSpec],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    (worker,) = stack.children[1:]
    with hung_mount(tmp_path / "mount") as mount:
        options = {"how": "hung", "path": str(mount / "file")}
        pipeline = client.submit(make_spec(dataset={"name": "misbehaving:data", "options": options})).id
        child = wait_until(lambda: (tmp_path / "begun").exists() and pool_process(worker), "it begins")
        assert worker.pid is not None

        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: not worker.alive, "the worker ends")
        child_was_there = child.is_running()
        queued = sum(map(connect(stack.settings).llen, lists_of("any")))
    worker.start()

    assert child_was_there
    assert queued == 1
    assert finish(client, pipeline) == "done"
