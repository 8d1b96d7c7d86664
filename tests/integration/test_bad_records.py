"""Records at the broker that are garbage, or of another version: each costs only itself."""

from __future__ import annotations

import gc
import json
import logging
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.shared.broker.celery_app import lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.app import create
from distill_queue.worker.process.delivery import _renew_unacknowledged
from distill_queue.worker.process.main_process import MainProcess

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
#: Ids that no pipeline was ever given.
NO_IDS = ("a/b", "..", "a\0b", "x" * 10_000, "a\nb", "")
KEY = "0" * 64


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Of workers that look after things eight times a second, and say how many there are."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return settings.model_copy(update={"visibility_timeout_seconds": 1.0, "metrics_port": port})


@pytest.fixture
def broker(settings: Settings) -> Any:
    """The broker, with a client that may write anything."""
    return connect(settings)


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """The ledger."""
    return Ledger(connect(settings), settings.history_seconds)


@pytest.fixture
def client(settings: Settings) -> PipelineClient:
    """A client of the broker."""
    return PipelineClient(settings)


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """The workers' application."""
    app = create(settings)
    yield app
    gc.collect()


def plan_with(plan: Plan, **fields: object) -> str:
    return json.dumps(json.loads(plan.model_dump_json()) | fields)


def put_bad_pipelines(broker: Any, plan: Plan) -> list[str]:
    """Enter pipelines that this version cannot read, all of them unfinished and long silent; return their ids."""
    whole = {"plan": plan.model_dump_json(), "submitted": "1.0"}
    bad: dict[str, dict[str, str]] = {
        "garbage": whole | {"plan": "garbage"},
        "no-stages": whole | {"plan": plan_with(plan, trunk=[])},
        "no-device": whole | {"plan": plan_with(plan, device="tpu")},
        "no-time": whole | {"submitted": "abc"},
        "endless": whole | {"submitted": "inf"},
        "nested": whole | {"plan": "[" * 100_000},
        "no-text": {"plan": b"\xff{\xfe", "submitted": "1"},  # type: ignore[dict-item]
    }
    for pipeline, fields in bad.items():
        broker.hset(f"distill:pipeline:{pipeline}", mapping=fields)
    broker.set("distill:pipeline:text", "garbage")
    for pipeline in (*bad, "text", *NO_IDS):
        broker.zadd("distill:pipelines", {pipeline: time.time()})
        broker.zadd("distill:unfinished", {pipeline: 0.0})
    for pipeline in NO_IDS:
        broker.hset(f"distill:pipeline:{pipeline}", mapping=whole)
    return [*bad, "text"]


def test_a_pipeline_that_cannot_be_read_is_listed_as_such_and_hides_no_other_one(
    broker: Any, ledger: Ledger, make_spec: MakeSpec
) -> None:
    plan = Plan.of(make_spec())
    ledger.open("whole", plan)
    broker.hset("distill:pipeline:whole", f"record:{plan.trunk[0].key}", "garbage")
    broker.hset("distill:pipeline:whole", f"state:{plan.trunk[1].key}", '{"state": "asleep"}')
    bad = put_bad_pipelines(broker, plan)

    found = list(ledger.standings(ledger.pipelines()))

    whole = next(each for each in found if each.id == "whole")
    assert whole.states[plan.trunk[0].key].progress.startswith("its record is not readable")
    assert whole.states[plan.trunk[1].key].progress.startswith("its state was written by another version")
    reasons = {each.id: each.why for each in found if each.id != "whole"}
    assert sorted(reasons) == sorted(bad)
    assert all(pipeline in why and "\n" not in why for pipeline, why in reasons.items())
    with pytest.raises(UnreadableRecord, match=r"'no-device' was written by another version.*: device: "):
        ledger.status("no-device")


def test_a_pipeline_that_cannot_be_read_can_be_cancelled_and_read_about(
    client: PipelineClient, broker: Any, settings: Settings, make_spec: MakeSpec
) -> None:
    put_bad_pipelines(broker, Plan.of(make_spec()))
    logs = PipelineLogs(connect(settings), settings.history_seconds)
    logs.note("garbage", "worker@here", (), "still here")
    broker.xadd("distill:logs:garbage", {"what": "is this"})
    broker.xadd("distill:logs:garbage", {"time": "nan", "level": "", "worker": "", "stages": "", "message": ""})

    client.cancel("garbage")

    assert broker.hexists("distill:pipeline:garbage", "cancelled")
    assert [line.message for line in logs.read("garbage")] == ["still here"]
    assert [line.message for line in logs.follow("garbage", lambda: True)] == ["still here"]


def test_the_doctor_names_what_cannot_be_read(
    settings: Settings, client: PipelineClient, broker: Any, make_spec: MakeSpec
) -> None:
    client.submit(make_spec())
    for name in ("distill:workers", "distill:parked", "distill:attempts:a", "gpu", "unacked", "distill:refused"):
        broker.set(name, "garbage")

    (finding,) = (each for each in examine(settings) if each.subject == "records")
    queues = client.queues()
    broker.set("distill:unfinished", "garbage")
    findings = {each.subject: each for each in examine(settings)}

    assert finding.state == "warning"
    assert "'distill:workers' at the broker holds a value of another type" in finding.detail
    assert "more)" in finding.detail
    assert sum(state.waiting for state in queues) == 1
    assert client.workers() == []
    assert "broker" in findings
    assert findings["broker"].state == "good"
    assert "distill:unfinished" in findings["records"].detail


def test_nothing_that_cannot_be_read_keeps_a_pipeline_from_being_done(
    app: Celery, client: PipelineClient, broker: Any, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan.of(make_spec())
    data, teacher, labels = (stage.key for stage in plan.trunk)
    for name in ("distill:workers", "distill:unfinished", "distill:gpus", "distill:pages"):
        broker.set(name, "garbage")
    for name in (f"distill:attempts:{data}", f"distill:blocks:{data}"):
        broker.rpush(name, "garbage", "[]", "[1, 2]", '["w", "x", "newer"]')
    broker.rpush(f"distill:failure:{teacher}", "garbage")
    broker.set(f"distill:lease:{labels}", "garbage")

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="warning"):
        pipeline = client.submit(make_spec()).id
        broker.set(f"distill:logs:{pipeline}", "garbage")
        *_, status = client.watch(pipeline)

    assert status.state == "done"
    assert sum("distill:logs" in record.getMessage() for record in caplog.records) == 1


def test_a_stage_fails_in_one_sentence_where_its_own_key_is_of_another_type(
    app: Celery, client: PipelineClient, broker: Any, make_spec: MakeSpec
) -> None:
    broken, other = make_spec(), make_spec(dataset={"name": "digits", "validation": 0.2})
    key = Plan.of(broken).trunk[0].key
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="warning"):
        broker.set(f"distill:attempts:{key}", "garbage")
        failed = client.submit(broken).id
        lost = client.submit(other).id
        broker.set(f"distill:pipeline:{lost}", "garbage")
        *_, status = client.watch(failed)
        *_, after = client.watch(client.submit(other).id)

    (error,) = status.errors
    assert error.startswith(f"prepare digits: 'distill:attempts:{key}' at the broker holds a value of another type")
    assert after.state == "done"


class Housekeeping:
    """What a worker does besides stages, and how each part of it shows."""

    def __init__(self, app: Celery, settings: Settings, client: PipelineClient, spec: PipelineSpec) -> None:
        self.broker: Any = connect(settings)
        self.client, self.settings = client, settings
        message = app.signature("distill.prepare_data", kwargs={"pipeline": "p", "stages": []}, queue="gpu")
        self.parked = f"x {MainProcess.of(app).connections().kept_messages.sealed(message)}"
        self.stranded = client.submit(spec).id
        app.send_task("distill.prepare_data", kwargs={"pipeline": "p", "stages": []}, queue="cpu", countdown=1_000)

    def renewed(self) -> Callable[[], Any]:
        """Whether the time of what the worker holds moves."""
        held = dict(self.broker.zrange("unacked_index", 0, -1, withscores=True))
        return lambda: held and all(self.broker.zscore("unacked_index", tag) > score for tag, score in held.items())

    def entered(self) -> Callable[[], Any]:
        """Whether the worker is there."""
        (name,) = self.broker.keys("distill:worker:*")
        self.broker.delete(name)
        return lambda: self.broker.exists(name)

    def measured(self) -> Callable[[], Any]:
        """Whether queues are measured."""
        self._empty()
        self.broker.rpush(lists_of("gpu")[1], *"12345")
        return lambda: b'distill_queue_length{queue="gpu"} 5.0' in self._metrics()

    def woken(self) -> Callable[[], Any]:
        """Whether a task that waits for a free key is sent."""
        self._empty()
        self.broker.hset(f"distill:parked:{KEY}", "task", self.parked)
        self.broker.sadd("distill:parked", KEY)
        self.broker.delete("distill:looked")
        return self._sent

    def rescued(self) -> Callable[[], Any]:
        """Whether a pipeline that stands still is sent again."""
        self._empty()
        self.broker.zadd("distill:unfinished", {self.stranded: 0.0})
        self.broker.delete("distill:rescue")
        return self._sent

    def _sent(self) -> bool:
        return any(self.broker.type(name) == "list" for name in lists_of("gpu"))

    def _empty(self) -> None:
        self.broker.delete(*lists_of("gpu"))

    def _metrics(self) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.metrics_port}/metrics") as answer:
            return bytes(answer.read())


def test_each_part_of_the_housekeeping_goes_on_while_another_one_is_down(
    app: Celery,
    settings: Settings,
    client: PipelineClient,
    make_spec: MakeSpec,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    with start_worker(
        app, pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="warning", queues=["cpu"]
    ):
        work = Housekeeping(app, settings, client, make_spec(device="gpu"))
        wait_until(lambda: work.broker.zcard("unacked_index"), "the worker holds a message")
        put_bad_pipelines(work.broker, Plan.of(make_spec()))
        for key, entry in {"bad": "garbage", "worse": "x {}", "list": "x []"}.items():
            work.broker.hset(f"distill:parked:{key}", "task", entry)
            work.broker.sadd("distill:parked", key)
        work.broker.set("distill:parked:text", "garbage")
        work.broker.sadd("distill:parked", "text", "a/b", "\0")
        parts = {
            "distill:workers": (),
            "distill:unfinished": ("rescued",),
            "distill:parked": ("woken",),
            lists_of("any")[0]: (),
            "distill:refused": (),
            "": (),
        }
        for name, down in parts.items():
            if name:
                kept = work.broker.dump(name)
                work.broker.set(name, "garbage")
            for part in ("renewed", "entered", "rescued", "woken", "measured"):
                if part not in down:
                    wait_until(getattr(work, part)(), f"{part} while {name!r} is garbage")
            if name:
                work.broker.delete(name)
                if kept:
                    work.broker.restore(name, 0, kept)

    told = [record.getMessage() for record in caplog.records if "'garbage'" in record.getMessage()]
    assert len(told) == 1
    assert "the plan of 'garbage' is not readable" in told[0]
    assert not [record for record in caplog.records if record.exc_info]


def test_an_index_of_another_type_is_no_broker_that_is_away(app: Celery, broker: Any) -> None:
    broker.set("unacked_index", "garbage")
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.qos._delivered["tag"] = None

        with pytest.raises(UnreadableRecord, match="'unacked_index'"):
            _renew_unacknowledged(channel)
        channel.qos._delivered.clear()


def test_marks_and_leases_without_an_end_hold_nothing_up_for_ever(app: Celery, broker: Any) -> None:
    connections = MainProcess.of(app).connections()
    for name in ("distill:rescue", "distill:looked", f"distill:lease:{KEY}"):
        broker.set(name, "garbage")

    assert connections.rescue.stranded() == connections.leases.free_keys() == []
    assert connections.leases.acquire(KEY, "worker@here", "task", "message") is None

    for name in ("distill:rescue", "distill:looked", f"distill:lease:{KEY}"):
        assert 0 < broker.pttl(name) <= 2_000


def test_a_kept_pipeline_that_cannot_be_sent_does_not_keep_others_from_being_recovered(
    client: PipelineClient, broker: Any, make_spec: MakeSpec, settings: Settings
) -> None:
    good = client.submit(make_spec()).id
    folder = Path(settings.store) / "pipelines"
    kept = json.loads((folder / f"{good}.json").read_text())
    for number, canvas in enumerate(("garbage", "[]", "5", '{"task": 5}', "[" * 100_000)):
        (folder / f"bad-{number}.json").write_text(json.dumps(kept | {"canvas": canvas}))
    (folder / "newer-1.json").write_text(json.dumps(kept | {"what_is_new": 1}))
    broker.flushall()

    recovered = client.recover()

    assert good in recovered
    assert not [pipeline for pipeline in recovered if pipeline.startswith("bad")]
