"""Workers that die, are paused or are told to end in the middle of a stage."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import lines_of, pool_process, teacher_weights

WaitUntil = Callable[[Callable[[], Any], str], Any]
TrainingWorker = Callable[[LocalStack, PipelineClient, str], Child]


def finish(client: PipelineClient, pipeline: str) -> str:
    *_, status = client.watch(pipeline)
    return status.state


def test_a_killed_pool_process_hands_its_stage_on_at_once_and_the_weights_are_the_same(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    undisturbed: bytes,
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)

    pool_process(worker).kill()

    assert finish(client, pipeline) == "done"
    assert lines_of(stack, "goes on from step")
    assert lines_of(stack, "released for the dead")
    assert teacher_weights(stack, client, pipeline) == undisturbed


def test_a_killed_worker_hands_its_stage_to_another_and_the_weights_are_the_same(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    undisturbed: bytes,
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    assert worker.pid is not None

    os.killpg(worker.pid, signal.SIGKILL)

    assert finish(client, pipeline) == "done"
    status = client.status(pipeline)
    assert not status.states[status.plan.trunk[1].key].worker.startswith(worker.name)
    assert lines_of(stack, "goes on from step")
    assert teacher_weights(stack, client, pipeline) == undisturbed


def test_a_stage_longer_than_the_visibility_timeout_is_started_once(
    stack: LocalStack, client: PipelineClient, make_spec: Callable[..., PipelineSpec]
) -> None:
    training = {"epochs": 200, "batch_size": 16}
    spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})
    pipeline = client.submit(spec).id

    assert finish(client, pipeline) == "done"

    status = client.status(pipeline)
    teacher = status.states[status.plan.trunk[1].key].record
    assert teacher is not None
    assert teacher.seconds > 2 * 3, "the stage must outlast the timeout for this test to say anything"
    assert len(lines_of(stack, "lease", teacher.key, "taken")) == 1
    assert len(lines_of(stack, "Task distill.train_teacher[", "received")) == 1, "nobody else was given the message"


def test_a_worker_paused_for_too_long_stops_when_it_goes_on_and_does_no_harm(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    undisturbed: bytes,
    wait_until: WaitUntil,
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    key = client.status(pipeline).plan.trunk[1].key
    paused = [psutil.Process(worker.pid), pool_process(worker)]

    for process in paused:
        process.suspend()
    try:
        wait_until(lambda: len(lines_of(stack, "lease", key, "taken")) == 2, "another worker takes the stage")
    finally:
        for process in paused:
            process.resume()

    assert finish(client, pipeline) == "done"
    wait_until(lambda: lines_of(stack, "lease", key, "lost"), "the paused worker notices")
    assert teacher_weights(stack, client, pipeline) == undisturbed


def test_a_worker_paused_for_less_than_the_timeout_keeps_its_stage(
    stack: LocalStack, client: PipelineClient, long_spec: PipelineSpec, training_worker: TrainingWorker
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    key = client.status(pipeline).plan.trunk[1].key

    for process in (paused := [psutil.Process(worker.pid), pool_process(worker)]):
        process.suspend()
    time.sleep(1.5)  # What is tested is a time: less than the three seconds of the timeout.
    for process in paused:
        process.resume()

    assert finish(client, pipeline) == "done"
    assert len(lines_of(stack, "lease", key, "taken")) == 1


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_worker_that_is_told_to_end_hands_its_stage_back_at_once(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    wait_until: WaitUntil,
    signals: list[signal.Signals],
) -> None:
    pipeline = client.submit(long_spec).id
    worker = training_worker(stack, client, pipeline)
    assert worker.pid is not None

    told = time.monotonic()
    for number in signals:
        os.kill(worker.pid, number)
        time.sleep(0.1)  # The kernel merges a signal with an earlier one of its kind that is not handled yet.
    wait_until(lambda: not worker.alive, "the worker ends")

    assert time.monotonic() - told < 20
    assert finish(client, pipeline) == "done"
    assert lines_of(stack, "goes on from step")
