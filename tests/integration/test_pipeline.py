"""A pipeline through a real broker and an in-process worker."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from scheduler.client import PipelineClient
from shared.errors import PipelineFailed, UnknownPipeline
from shared.ledger import Ledger, connect
from shared.plan import Plan
from shared.records import PipelineStatus
from shared.settings import Settings
from shared.spec import PipelineSpec
from worker.app import create

MakeSpec = Callable[..., PipelineSpec]


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """The workers' application."""
    app = create(settings)
    yield app
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


@pytest.fixture
def worker(app: Celery) -> Iterator[None]:
    """A worker in a thread of this process."""
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield


@pytest.fixture
def client(settings: Settings) -> PipelineClient:
    """A client of the same broker."""
    return PipelineClient(settings)


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def outcomes(client: PipelineClient, pipeline: str) -> dict[str, str]:
    finish(client, pipeline)
    return {stage.title: stage.outcome for stage in client.results(pipeline).stages}


@pytest.mark.usefixtures("worker")
def test_a_pipeline_is_computed_once_and_found_the_second_time(client: PipelineClient, make_spec: MakeSpec) -> None:
    first = outcomes(client, client.submit(make_spec()))
    second = outcomes(client, client.submit(make_spec()))

    assert set(first.values()) == {"computed"}
    assert set(second.values()) == {"found"}
    assert list(first) == list(second) == [stage.title for stage in Plan.of(make_spec()).stages]


@pytest.mark.usefixtures("worker")
def test_a_changed_student_computes_only_what_follows_from_it(client: PipelineClient, make_spec: MakeSpec) -> None:
    outcomes(client, client.submit(make_spec()))
    student = make_spec().students[0].model_dump(mode="json") | {"distillation": {"temperature": 2.0, "alpha": 0.5}}
    spec = make_spec(students=[student])

    second = outcomes(client, client.submit(spec))

    computed = {title for title, outcome in second.items() if outcome == "computed"}
    assert computed == {"distill small", "evaluate small", "report"}


@pytest.mark.usefixtures("worker")
def test_results_compare_the_student_with_its_control_and_the_teacher(
    client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec())
    finish(client, pipeline)

    results = client.results(pipeline)

    (score,) = results.scores.students
    assert score.control is not None
    assert score.gain == score.student.accuracy - score.control.accuracy
    assert results.scores.teacher.agreement == 1.0
    assert score.student.parameters == score.control.parameters < results.scores.teacher.parameters


@pytest.mark.usefixtures("worker")
def test_a_stage_that_cannot_be_done_fails_its_pipeline_with_one_message(
    client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec(dataset={"name": "nowhere.data:load"}))

    status = finish(client, pipeline)

    assert status.state == "failed"
    (error,) = status.errors
    assert "does not import 'nowhere'" in error
    assert "DISTILL_PLUGINS=nowhere" in error
    assert [state.state for state in status.states.values()] == ["failed"] + ["blocked"] * (len(status.states) - 1)
    with pytest.raises(PipelineFailed, match="nowhere"):
        client.results(pipeline)


@pytest.mark.usefixtures("worker")
def test_a_stage_that_another_pipeline_computes_waits_and_goes_on_when_it_is_free(
    app: Celery,
    client: PipelineClient,
    make_spec: MakeSpec,
    wait_until: Callable[[Callable[[], Any], str], Any],
) -> None:
    plan = Plan.of(make_spec())
    leases = app.bench().leases
    held = leases.acquire(plan.trunk[0].key, "worker", "another-task", "")
    assert held is not None

    with leases.kept(held):
        pipeline = client.submit(make_spec())
        wait_until(lambda: leases.parked(held.key), "the stage is parked")
        waiting = client.status(pipeline).states[held.key]
    app.bench().wake(held.key)

    assert (waiting.state, waiting.progress) == ("waiting", "waits: another pipeline computes prepare digits")
    assert finish(client, pipeline).state == "done"
    assert leases.parked(held.key) == {}


def test_two_pipelines_with_one_teacher_train_it_once(app: Celery, client: PipelineClient, make_spec: MakeSpec) -> None:
    pipelines = [client.submit(make_spec(name=name)) for name in ("one", "two")]

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        found = [outcomes(client, pipeline)["train teacher"] for pipeline in pipelines]

    assert sorted(found) == ["computed", "found"]


def test_a_message_says_in_words_what_it_is(settings: Settings, client: PipelineClient, make_spec: MakeSpec) -> None:
    pipeline = client.submit(make_spec())

    with redis.Redis.from_url(settings.redis_url) as broker:
        (message,) = broker.lrange("any", 0, -1)
    headers = json.loads(message)["headers"]

    assert headers["task"] == "distill.prepare_data"
    key = Plan.of(make_spec()).trunk[0].ref.short_key
    assert headers["kwargsrepr"] == f"{pipeline} · prepare digits · digits · key {key}"


def test_the_device_of_a_spec_chooses_the_queue(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    client.submit(make_spec(device="gpu"))

    with redis.Redis.from_url(settings.redis_url) as broker:
        assert broker.llen("gpu") == 1
        assert broker.llen("any") == 0


def test_an_unknown_pipeline_is_an_error_that_says_so(client: PipelineClient) -> None:
    with pytest.raises(UnknownPipeline, match="no pipeline 'nothing'"):
        client.status("nothing")


def test_what_a_pipeline_leaves_in_the_broker_expires(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec())

    with redis.Redis.from_url(settings.redis_url) as broker:
        assert 0 < broker.ttl(f"distill:pipeline:{pipeline}") <= settings.history_seconds
    assert Ledger(connect(settings), settings.history_seconds).pipelines() == [pipeline]
