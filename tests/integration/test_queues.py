"""What `distill queues` tells of a real server's queues: what waits, what runs, and who serves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.simple import SimpleQueue
from typer.testing import CliRunner

from distill_queue.scheduler.cli.main import app as distill
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.catalog import PRIORITIES
from distill_queue.shared.ledger.queues import PLACES, Queues, QueueState
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.settings import Settings


@pytest.fixture(params=["", "project"], ids=["no prefix", "a prefix"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """An emptied server, for one project or for one of several."""
    return settings.model_copy(update={"prefix": request.param})


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """An application that sends and takes messages."""
    app = create_app(settings, keeps_results=False)
    yield app
    app.close()


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `distill queues` and return what it printed."""
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)

    def run(*options: str) -> str:
        done = CliRunner().invoke(distill, ["queues", *options])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def send(app: Celery, queue: str, priority: str, *, countdown: float | None = None) -> None:
    """Put a message into a queue."""
    app.send_task("distill.report", queue=queue, priority=PRIORITIES[priority], countdown=countdown)


def read(settings: Settings) -> dict[tuple[str, str], QueueState]:
    """How each queue stands at each priority."""
    return {(state.queue, state.priority): state for state in PipelineClient(settings).queues()}


def test_what_waits_is_counted_by_queue_and_priority_also_where_no_worker_is(
    settings: Settings, app: Celery, ask: Callable[..., str]
) -> None:
    for priority in ("high", "normal", "normal", "low"):
        send(app, "any", priority)
    send(app, "gpu", "low")

    states = read(settings)
    printed = json.loads(ask("--json"))
    queues = Queues(connect(settings))

    assert queues.any_waits({"cpu", "any"})
    assert not queues.any_waits({"cpu"})
    assert list(states) == list(PLACES)
    waiting = {place: state.waiting for place, state in states.items() if state.waiting}
    assert waiting == {("any", "high"): 1, ("any", "normal"): 2, ("any", "low"): 1, ("gpu", "low"): 1}
    assert all((state.oldest_seconds is None) == (state.waiting == 0) for state in states.values())
    assert all((state.running, state.later, state.workers) == (0, 0, ()) for state in states.values())
    assert [(each["queue"], each["priority"], each["waiting"]) for each in printed] == [
        (*place, state.waiting) for place, state in states.items()
    ]


def test_what_workers_have_taken_is_counted_and_an_entry_that_is_no_message_costs_only_itself(
    settings: Settings, app: Celery, ask: Callable[..., str]
) -> None:
    broker: Any = connect(settings)
    WorkerRegistry(broker).enter(WorkerEntry.of_this_process("one@host", ("cpu", "any"), "store"), 60.0, "a")
    send(app, "any", "high")
    send(app, "any", "low", countdown=600.0)
    send(app, "cpu", "normal")
    nonsense = ["no JSON", "[1, 2]", '[{"headers": 3}, "", "any"]', '[{"headers": {}, "properties": {}}, "", "other"]']
    for number, entry in enumerate(nonsense):
        broker.hset(broker.names.unacknowledged, f"nonsense-{number}", entry)

    with app.connection_for_read() as connection:
        for _ in range(2):
            SimpleQueue(connection.default_channel, app.amqp.queues["any"]).get(timeout=10.0)
        states = read(settings)
        table = ask()

    assert (states["any", "high"].running, states["any", "high"].later) == (1, 0)
    assert (states["any", "low"].running, states["any", "low"].later) == (0, 1)
    assert sum(state.waiting for state in states.values()) == 1
    assert sum(state.running or 0 for state in states.values()) == 1
    assert {state.queue: state.workers for state in states.values()} == {
        "cpu": ("one@host",),
        "gpu": (),
        "any": ("one@host",),
    }
    lines = [" ".join(line.replace("│", " ").split()) for line in table.splitlines()]
    assert "any high 0 1 0 one@host" in lines
    assert "cpu normal 1 0 s 0 0 one@host" in lines
    assert "gpu normal 0 0 0 none" in lines


def test_who_may_not_read_what_workers_have_taken_sees_what_waits(
    settings: Settings, app: Celery, ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(app, "any", "normal")
    broker: Any = connect(settings)
    rights = ["~*any*", "~*cpu*", "~*gpu*", "~*distill:*", "-@all", "+select", "+llen", "+lindex", "+smembers"]
    broker.execute_command("ACL", "SETUSER", "poor", "on", ">word", *rights)
    url = settings.broker_url.replace("redis+socket://", "redis+socket://poor:word@")
    monkeypatch.setenv("DISTILL_BROKER_URL", url)
    try:
        states = read(settings.model_copy(update={"broker_url": url}))
        table = ask()
    finally:
        broker.execute_command("ACL", "DELUSER", "poor")

    assert states["any", "normal"].waiting == 1
    assert {(state.running, state.later) for state in states.values()} == {(None, None)}
    assert "this user may not read what workers have taken" in " ".join(table.split())
