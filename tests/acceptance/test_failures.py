"""Stages that kill, bugs, limits, cancelled pipelines, and a broker that goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import BrokerUnavailable, PipelineFailed
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from tests.acceptance.conftest import free_port, lines_of, pool_process, with_workers

WaitUntil = Callable[[Callable[[], Any], str], Any]
MakeSpec = Callable[..., PipelineSpec]
TrainingWorker = Callable[..., Child]


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def misbehaving(make_spec: MakeSpec, how: str, **changes: Any) -> PipelineSpec:
    return make_spec(name=how, dataset={"name": "misbehaving:data", "options": {"how": how}}, **changes)


def test_a_stage_that_kills_its_worker_fails_after_three_attempts_and_holds_up_nobody(
    stack: LocalStack, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipelines = [client.submit(misbehaving(make_spec, "killed")).id for _ in range(3)]
    healthy = client.submit(make_spec()).id

    errors = [finish(client, pipeline).errors for pipeline in pipelines]

    assert finish(client, healthy).state == "done"
    for (error,) in errors:
        assert error.startswith("prepare misbehaving:data: given up after 3 attempts: 1. on worker-")
        assert error.count("signal 9 (SIGKILL)") == 3
    assert len(lines_of(stack, "exited with 'signal 9 (SIGKILL)'")) == 3, "no attempt more for those who waited"
    logs = PipelineLogs(connect(stack.settings), stack.settings.history_seconds)
    told = [line.message for pipeline in pipelines for line in logs.read(pipeline)]
    assert sum("the process died: Worker exited prematurely: signal 9 (SIGKILL)" in message for message in told) == 3


@with_workers(1)
@pytest.mark.parametrize("how", ["slow", "deaf"])
def test_a_stage_that_takes_too_long_fails_with_its_limit(
    client: PipelineClient, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("distill_queue.scheduler.client.canvas.HARD_LIMIT_SECONDS", 2.0)
    assert (
        finish(client, client.submit(make_spec()).id).state == "done"
    )  # Loading torch may take longer than the limit.

    status = finish(client, client.submit(misbehaving(make_spec, how, time_limits={"prepare_data": 4})).id)

    (error,) = status.errors
    assert "took longer than its time limit of 4 s: raise it under 'time_limits' in the spec" in error
    other = make_spec(dataset={"name": "digits", "validation": 0.1})
    assert finish(client, client.submit(other).id).state == "done"


def test_a_cancelled_pipeline_stops_within_seconds_and_another_that_needs_its_teacher_goes_on(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    wait_until: WaitUntil,
) -> None:
    first = client.submit(long_spec).id
    training_worker(stack, client, first)
    second = client.submit(long_spec).id
    teacher = client.status(second).plan.trunk[1].key
    wait_until(lambda: "another pipeline" in client.status(second).states[teacher].progress, "the second one waits")

    client.cancel(first)

    assert client.status(first).state == "cancelled"
    assert finish(client, second).state == "done"
    assert lines_of(stack, "goes on from step"), "the second pipeline takes up the first one's work"
    with pytest.raises(PipelineFailed, match="was cancelled"):
        client.results(first)
    assert client.recover() == []


def test_twenty_pipelines_share_one_teacher_even_when_its_trainer_dies(
    start_stack: Callable[..., LocalStack], make_spec: MakeSpec, training_worker: TrainingWorker
) -> None:
    stack = start_stack(workers=4)
    client = PipelineClient(stack.settings)
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 40, "batch_size": 16}}
    pipelines = [client.submit(make_spec(name=f"p{number}", teacher=teacher)).id for number in range(20)]

    pool_process(training_worker(stack, client, *pipelines)).kill()

    assert {finish(client, pipeline).state for pipeline in pipelines} == {"done"}
    key = client.status(pipelines[0]).plan.trunk[1].key
    records = [client.status(pipeline).states[key].record for pipeline in pipelines]
    assert sorted(record.outcome for record in records if record) == ["computed"] + ["found"] * 19
    assert len(lines_of(stack, "lease", key, "taken")) == 2, "the one that was killed, and the one that went on"


def test_a_restarted_broker_is_met_again_by_workers_and_watchers(
    start_stack: Callable[..., LocalStack],
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    tmp_path: Path,
) -> None:
    address = f"redis://127.0.0.1:{free_port()}/0"
    stack = start_stack(workers=2, settings={"broker_url": address}, server_folder=tmp_path / "server")
    client = PipelineClient(stack.settings)
    pipeline = client.submit(long_spec).id
    training_worker(stack, client, pipeline)
    states: list[str] = []
    watcher = threading.Thread(target=lambda: states.append(finish(client, pipeline).state))
    watcher.start()

    server = stack.children[0]
    server.ask_to_end()
    server.end(deadline=float("inf"))
    with pytest.raises(BrokerUnavailable):
        client.status(pipeline)
    server.start()

    watcher.join(60)
    assert states == ["done"]
    key = client.status(pipeline).plan.trunk[1].key
    assert len(lines_of(stack, "lease", key, "taken")) == 1


def test_what_an_emptied_broker_forgot_is_recovered_from_the_store(
    stack: LocalStack, client: PipelineClient, long_spec: PipelineSpec, training_worker: TrainingWorker
) -> None:
    pipeline = client.submit(long_spec).id
    training_worker(stack, client, pipeline)
    with redis.Redis(**stack.settings.broker.redis_options) as broker:
        broker.flushall()

    assert client.recover() == [pipeline]
    assert client.recover() == []

    assert finish(client, pipeline).state == "done"
    assert not (FolderStore(stack.settings.folder).root / "pipelines" / f"{pipeline}.json").exists()


def test_a_full_disk_is_waited_for(
    stack: LocalStack,
    client: PipelineClient,
    long_spec: PipelineSpec,
    training_worker: TrainingWorker,
    wait_until: WaitUntil,
) -> None:
    pipeline = client.submit(long_spec).id
    training_worker(stack, client, pipeline)
    teacher = client.status(pipeline).plan.trunk[1].key
    children = [pool_process(child) for child in stack.children[1:]]

    for child in children:
        child.rlimit(psutil.RLIMIT_FSIZE, (1_000, -1))
    wait_until(lambda: "tries again" in client.status(pipeline).states[teacher].progress, "the stage waits")
    waiting = client.status(pipeline).states[teacher].progress
    for child in children:
        child.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))

    assert "File too large" in waiting
    assert finish(client, pipeline).state == "done"
    assert not list((stack.settings.folder / "partial").iterdir())
