"""What a worker's main process does for a child that is gone, on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.worker.state import scheduled_requests
from kombu.message import Message

from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.app import create
from distill_queue.worker.process.main_process import MainProcess
from distill_queue.worker.process.supervision import StageRequest, _lost, put_back

WORKER, CHILD = "worker@here", 4711


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """A worker's application; it kills no process."""
    app = create(settings)
    MainProcess.of(app).watchdog.kill = lambda _pid: None
    yield app
    app.close()


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """The ledger that the worker writes."""
    return Ledger(connect(settings), settings.history_seconds)


@pytest.fixture
def stage(ledger: Ledger, make_spec: Callable[..., PipelineSpec]) -> Stage:
    """A stage of the pipeline `p`, on which the worker's child is at work."""
    plan = Plan.of(make_spec())
    ledger.open("p", plan)
    ledger.note("p", [plan.trunk[0].key], StageState(state="running", worker=WORKER))
    return plan.trunk[0]


@pytest.fixture
def request_of_child(app: Celery, stage: Stage) -> StageRequest:
    """The child's task; `rejected` has whether it was put back into its queue, each time that this was said."""
    kwargs = {"pipeline": "p", "stages": [stage.model_dump(mode="json")]}
    name = f"distill.{stage.kind}"
    message = Message(
        json.dumps([[], kwargs, {}]),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"routing_key": "any", "exchange": ""},
        headers={"id": "task", "task": name, "lang": "py", "argsrepr": "", "kwargsrepr": ""},
    )
    request = StageRequest(
        message,
        app=app,
        task=app.tasks[name],
        hostname=WORKER,
        on_reject=lambda _logger, _errors, requeue: request.rejected.append(requeue),
    )
    request.rejected = []
    request.worker_pid = CHILD
    return request


def attempts(settings: Settings, stage: Stage) -> list[str]:
    """How attempts at a stage ended, as the broker has it."""
    client: Any = connect(settings)
    return [json.loads(text)[1] for text in client.lrange(f"distill:attempts:{stage.key}", 0, -1)]


def test_a_silent_childs_stage_waits_and_its_message_goes_back(
    app: Celery, ledger: Ledger, settings: Settings, stage: Stage, request_of_child: StageRequest
) -> None:
    MainProcess.of(app).watchdog.kill_for_silence(CHILD)

    request_of_child.on_failure(_lost("gone"))

    state = ledger.status("p").states[stage.key]
    assert (state.state, state.progress) == (
        "waiting",
        "its process gave no sign of life for 0 s: given up there",
    )
    assert request_of_child.rejected == [True]
    assert attempts(settings, stage) == ["its process gave no sign of life for 0 s"]


@pytest.mark.parametrize("field", ["plan", "state"])
def test_what_a_newer_version_wrote_does_not_keep_a_message_from_its_queue(
    app: Celery, settings: Settings, stage: Stage, request_of_child: StageRequest, field: str
) -> None:
    client: Any = connect(settings)
    name = "plan" if field == "plan" else f"state:{stage.key}"
    client.hset("distill:pipeline:p", name, '{"state": "pondering", "what_is_new": 1}')
    MainProcess.of(app).watchdog.kill_for_silence(CHILD)

    request_of_child.tell_of_silence()
    request_of_child.on_failure(_lost("gone"))

    assert request_of_child.rejected == [True]
    assert attempts(settings, stage) == ["its process gave no sign of life for 0 s"]
    assert client.hget("distill:pipeline:p", name) == '{"state": "pondering", "what_is_new": 1}'


def test_a_silent_childs_stage_shows_its_silence(ledger: Ledger, stage: Stage, request_of_child: StageRequest) -> None:
    request_of_child.tell_of_silence()

    state = ledger.status("p").states[stage.key]
    assert (state.state, state.worker) == ("running", WORKER)
    assert state.progress.startswith("no sign of life for 0 s")


def test_a_message_that_waits_for_a_time_goes_back_too_and_is_not_begun(
    app: Celery, request_of_child: StageRequest
) -> None:
    scheduled_requests.add(request_of_child)

    put_back(MainProcess.of(app).watchdog)
    put_back(MainProcess.of(app).watchdog)

    assert request_of_child.rejected == [True]
    assert request_of_child.revoked()
    assert not scheduled_requests


def test_an_end_that_another_worker_reaches_meanwhile_stands(ledger: Ledger, stage: Stage) -> None:
    def change(state: StageState) -> StageState:
        ledger.fail("p", stage.key, "for good", "other@there")
        return state.model_copy(update={"progress": "no sign of life"})

    ledger.restate("p", [stage.key], WORKER, change)

    assert ledger.status("p").states[stage.key].state == "failed"


def test_what_another_worker_is_at_is_not_said_anew(ledger: Ledger, stage: Stage) -> None:
    ledger.restate("p", [stage.key, "f" * 64], "other@there", lambda _: StageState(progress="changed"))

    assert ledger.status("p").states[stage.key] == StageState(state="running", worker=WORKER)
