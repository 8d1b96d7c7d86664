"""Workers that die in the middle of a stage."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler.client import PipelineClient
from scheduler.local import LocalStack
from shared.settings import Settings
from shared.spec import PipelineSpec

WaitUntil = Callable[[Callable[[], Any], str], Any]


@pytest.fixture
def long_spec(make_spec: Callable[..., PipelineSpec]) -> PipelineSpec:
    """A pipeline whose teacher takes some seconds."""
    training = {"epochs": 80, "batch_size": 16}
    return make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Two workers, whose messages are given away after three seconds without renewal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_VISIBILITY_TIMEOUT_SECONDS", "3")
        settings = Settings(store=tmp_path / "store")
        with LocalStack(settings, workers=2) as stack:
            yield stack


@pytest.fixture
def client(stack: LocalStack) -> PipelineClient:
    """A client of the stack."""
    return PipelineClient(stack.settings)


def training_worker(client: PipelineClient, pipeline: str) -> str:
    """Name of the worker that trains the teacher, once it reports progress."""
    status = client.status(pipeline)
    teacher = status.states[status.plan.trunk[1].key]
    return teacher.worker if teacher.state == "running" and "epoch" in teacher.progress else ""


def started_in_log(stack: LocalStack, task: str) -> int:
    return sum(child.log.read_text().count(f"{task}[") for child in stack.children if child.name.startswith("worker"))


def test_a_killed_pool_process_hands_its_stage_on_at_once(
    stack: LocalStack, client: PipelineClient, long_spec: PipelineSpec, wait_until: WaitUntil
) -> None:
    pipeline = client.submit(long_spec)
    name = wait_until(lambda: training_worker(client, pipeline), "the teacher is trained").partition("@")[0]
    (worker,) = (child for child in stack.children if child.name == name)

    (pool_process,) = psutil.Process(worker.pid).children()
    os.kill(pool_process.pid, signal.SIGKILL)

    *_, status = client.watch(pipeline)
    assert status.state == "done"


def test_a_killed_worker_hands_its_stage_to_another(
    stack: LocalStack, client: PipelineClient, long_spec: PipelineSpec, wait_until: WaitUntil
) -> None:
    pipeline = client.submit(long_spec)
    name = wait_until(lambda: training_worker(client, pipeline), "the teacher is trained").partition("@")[0]
    (worker,) = (child for child in stack.children if child.name == name)
    assert worker.pid is not None

    os.killpg(worker.pid, signal.SIGKILL)

    *_, status = client.watch(pipeline)
    teacher = status.states[status.plan.trunk[1].key]
    assert status.state == "done"
    assert not teacher.worker.startswith(name)


def test_a_stage_longer_than_the_visibility_timeout_is_started_once(
    stack: LocalStack, client: PipelineClient, make_spec: Callable[..., PipelineSpec]
) -> None:
    training = {"epochs": 130, "batch_size": 16}
    spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})
    pipeline = client.submit(spec)

    *_, status = client.watch(pipeline)

    teacher = status.states[status.plan.trunk[1].key].record
    assert teacher is not None
    assert teacher.seconds > 2 * 3, "the stage must outlast the timeout for this test to say anything"
    assert started_in_log(stack, "distill.train_teacher") == 2, "one line when received, one when succeeded"
