"""Two projects with a prefix each share one database: each has its own work, workers, commands and keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child, celery_command
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import DISTILL, free_port
from tests.conftest import wait_until

PROJECTS = ("red", "blue.2")


@pytest.fixture
def projects(settings: Settings, tmp_path: Path) -> Iterator[dict[str, Settings]]:
    """Two projects at the session's emptied server, a worker process each."""
    found: dict[str, Settings] = {}
    workers: list[Child] = []
    for name in PROJECTS:
        quick = {"prefix": name, "store": str(tmp_path / name), "visibility_timeout_seconds": 3.0}
        found[name] = settings.model_copy(update=quick)
        command = [*DISTILL, "worker", "--devices", "cpu", "--name", name]
        workers.append(Child(name, command, found[name].environment, tmp_path / f"{name}.log"))
    try:
        for worker in workers:
            worker.start()
        yield found
    finally:
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(deadline=float("inf"))


@pytest.fixture
def clients(projects: dict[str, Settings]) -> dict[str, PipelineClient]:
    """A client each, once all workers are there."""
    clients = {name: PipelineClient(settings) for name, settings in projects.items()}
    for client in clients.values():
        wait_until(client.workers, "the worker enters itself")
    return clients


def test_a_project_s_pipeline_is_done_and_seen_by_itself_only(
    projects: dict[str, Settings], clients: dict[str, PipelineClient], make_spec: Callable[..., PipelineSpec]
) -> None:
    (red, blue), broker = clients.values(), connect(projects["red"])

    first = red.submit(make_spec()).id
    *_, status = red.watch(first)
    second = blue.submit(make_spec(name="other")).id
    *_, other = blue.watch(second)

    assert status.state == other.state == "done"
    assert {state.worker.partition("-")[0] for state in status.states.values()} == {"red"}
    assert {state.worker.partition("-")[0] for state in other.states.values()} == {"blue.2"}
    assert (red.ids(), blue.ids()) == ([first], [second])
    assert [worker.name.partition("-")[0] for worker in red.workers()] == ["red"]
    keys: set[str] = set(broker.scan_iter(count=1000))
    assert {key for key in keys if not key.startswith(("red:", "blue.2:"))} == set()
    assert {key.partition(":")[0] for key in keys} == set(PROJECTS)


def test_commands_reach_a_project_s_own_workers_and_flower_sees_only_those(
    projects: dict[str, Settings],
    clients: dict[str, PipelineClient],
    make_spec: Callable[..., PipelineSpec],
    tmp_path: Path,
) -> None:
    port = free_port()
    command = celery_command("flower", "--address=127.0.0.1", f"--port={port}")
    environment = projects["red"].environment | {"FLOWER_UNAUTHENTICATED_API": "1"}
    flower = Child("flower", command, environment, tmp_path / "flower.log")
    flower.start()
    try:
        wait_until(lambda: "Connected to" in flower.log.read_text(), "Flower listens")
        for client in clients.values():
            for _ in client.watch(client.submit(make_spec()).id):
                pass
        tasks = wait_until(lambda: ask_flower(port, "tasks?state=SUCCESS"), "Flower has seen tasks")
        queue_lengths = ask_flower(port, "queues/length")["active_queues"]
        app = create_app(projects["red"], keeps_results=False)
        pinged = app.control.ping(timeout=5.0, limit=2)
        app.control.broadcast("shutdown")
        wait_until(lambda: not app.control.ping(timeout=0.5), "red's worker ends")
        others = create_app(projects["blue.2"], keeps_results=False).control.ping(timeout=5.0, limit=1)
    finally:
        flower.ask_to_end()
        flower.end(deadline=float("inf"))

    assert {task["worker"].partition("-")[0] for task in tasks.values()} == {"red"}
    assert {queue["name"]: queue["messages"] for queue in queue_lengths} == {"cpu": 0, "any": 0}
    assert [name.partition("-")[0] for answer in pinged for name in answer] == ["red"]
    assert [name.partition("-")[0] for answer in others for name in answer] == ["blue.2"]
    assert "Traceback" not in flower.log.read_text()


def ask_flower(port: int, what: str) -> Any:
    """What Flower's API answers."""
    with urlopen(f"http://127.0.0.1:{port}/api/{what}") as answer:
        return json.load(answer)
