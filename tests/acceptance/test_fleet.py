"""Workers of one machine, one a device: started, watched and ended by one command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.devices import Device
from distill_queue.scheduler.stack.fleet import Fleet
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import DISTILL, distill

WaitUntil = Callable[..., Any]


@pytest.fixture
def server(start_stack: Callable[..., LocalStack]) -> LocalStack:
    """A server without workers."""
    return start_stack(workers=0)


@contextmanager
def started(server: LocalStack, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The worker command, for the server."""
    command = subprocess.Popen(
        [*DISTILL, "worker", *options],
        env=os.environ | server.settings.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield command
    finally:
        command.terminate()
        command.communicate(timeout=60)


def names(server: LocalStack) -> list[str]:
    return [entry.name.partition("@")[0] for entry in PipelineClient(server.settings).workers()]


def test_one_command_keeps_a_worker_a_device_and_starts_a_dead_one_again(
    server: LocalStack, wait_until: WaitUntil
) -> None:
    with started(server, "--devices", "cpu:2", "--name", "here") as command:
        wait_until(lambda: names(server) == ["here-cpu-1", "here-cpu-2"], "both workers are there")
        assert command.stdout is not None
        line = command.stdout.readline()
        first = int(re.search(r"process (\d+)", line)[1])

        psutil.Process(first).kill()
        lines = iter(command.stdout.readline, "")
        again = [next(line for line in lines if word in line) for word in ("died", "started")]

    assert "here-cpu-1 died (exit code -9): starts again in 1 s" in again[0]
    assert "here-cpu-1 started" in again[1]
    assert command.returncode == 128 + signal.SIGTERM


def test_a_command_that_is_told_to_end_hands_back_what_its_workers_do(
    server: LocalStack, long_spec: PipelineSpec, wait_until: WaitUntil
) -> None:
    client = PipelineClient(server.settings)
    with started(server, "--devices", "cpu"):
        pipeline = client.submit(long_spec).id
        teacher = client.status(pipeline).plan.trunk[1].key
        wait_until(lambda: "epoch" in client.status(pipeline).states[teacher].progress, "the teacher is trained")

    assert client.status(pipeline).states[teacher].progress.startswith("handed back by")
    assert names(server) == [] or wait_until(lambda: names(server) == [], "the worker is gone")


def test_what_may_run_anywhere_is_left_to_a_worker_with_a_gpu_that_is_free(
    server: LocalStack, make_spec: Callable[..., PipelineSpec], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.settings.environment.items():
        monkeypatch.setenv(name, value)
    # It serves what a GPU's worker does; there need be no GPU for what may run anywhere.
    fleet = Fleet.of([Device("cuda-0", ("gpu", "any"), 1), Device("cpu", ("cpu", "any"), 1)], "w", lambda *_: None)
    client = PipelineClient(server.settings)
    try:
        fleet.tend()
        wait_until(lambda: names(server) == ["w-cpu", "w-cuda-0"], "both workers are there")
        *_, status = client.watch(client.submit(make_spec(evaluation={"control": False})).id)
        *_, on_cpu = client.watch(client.submit(make_spec(device="cpu", name="other")).id)
    finally:
        fleet.end()

    def workers(records: list[StageRecord | None]) -> list[str]:
        return [record.worker.partition("@")[0] for record in records if record]

    in_order = [status.states[stage.key].record for stage in status.plan.trunk]
    assert workers(in_order) == ["w-cuda-0"] * 3
    assert set(workers([state.record for state in on_cpu.states.values()])) == {"w-cpu"}


def test_two_workers_of_one_name_are_told_apart_and_say_so(server: LocalStack, wait_until: WaitUntil) -> None:
    environment = os.environ | server.settings.environment | {"COLUMNS": "240"}

    def troubles() -> set[str]:
        return {entry.trouble for entry in PipelineClient(server.settings).workers() if entry.trouble}

    with started(server, "--devices", "cpu", "--name", "same"):
        wait_until(lambda: names(server) == ["same-cpu"], "the first one is there")
        assert not troubles()
        with started(server, "--devices", "cpu", "--name", "same"):
            wait_until(troubles, "one of them says so")
            examined, listed = distill(environment, "doctor"), distill(environment, "workers")
    wait_until(lambda: names(server) == [], "they are gone")
    with started(server, "--devices", "cpu", "--name", "same"):
        seen: set[float] = set()
        wait_until(
            lambda: seen.update(entry.seen for entry in PipelineClient(server.settings).workers()) or len(seen) > 3,
            "the next one of that name has entered itself again and again",
        )

        assert not troubles(), "who comes after a worker is no second one"

    assert examined.returncode == 1
    for shown in (examined.stdout, listed.stdout):
        assert "another worker of this name is on" in " ".join(shown.replace("│", " ").split())


def test_queues_that_a_device_cannot_serve_are_refused_at_once(server: LocalStack) -> None:
    environment = os.environ | server.settings.environment | {"CUDA_VISIBLE_DEVICES": ""}

    refused = distill(environment, "worker", "--devices", "cpu", "--queues", "gpu")
    absent = distill(environment, "worker", "--devices", "cuda:0")
    unknown = distill(environment, "worker", "--queues", "gqu")

    assert {done.returncode for done in (refused, absent, unknown)} == {2}
    assert "'cpu' is no GPU" in refused.stderr
    assert "no cuda:0 on this machine (there: none)" in absent.stderr
    assert "unknown queue 'gqu'" in unknown.stderr


def test_a_stage_for_a_gpu_waits_and_says_that_nobody_serves_it(
    server: LocalStack, make_spec: Callable[..., PipelineSpec], wait_until: WaitUntil
) -> None:
    client, environment = PipelineClient(server.settings), os.environ | server.settings.environment | {"COLUMNS": "240"}
    with started(server, "--devices", "cpu"):
        wait_until(lambda: len(names(server)) == 1, "the worker is there")
        pipeline = client.submit(make_spec(device="gpu")).id

        shown = json.loads(distill(environment, "status", pipeline, "--json").stdout)
        examined = distill(environment, "doctor")

    assert "in queue 'gpu', which no worker serves" in shown["stages"][0]["waits"]
    assert "'gpu' (pipelines that wait for it: 1)" in " ".join(examined.stdout.split())
