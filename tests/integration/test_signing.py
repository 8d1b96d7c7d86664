"""Messages are obeyed if their sender has the signing key, and refused if not: through a real broker and worker."""

from __future__ import annotations

import base64
import gc
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.watch.waiting import reasons
from distill_queue.shared.broker.celery_app import keyring, lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.fields import SIGNED_HEADERS
from distill_queue.shared.errors import Untrusted
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.refusals import Refusal, Refusals
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.app import create
from distill_queue.worker.process.main_process import MainProcess

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
KEY, OTHER = "a key of enough letters", "another key of enough letters"


def having(settings: Settings, *keys: str) -> Settings:
    return Settings(**settings.model_dump(exclude={"signing_key"}), signing_key=",".join(keys))


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker in a thread of this process."""
    app = create(settings)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield
    del app
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


@pytest.fixture
def signed(settings: Settings) -> Settings:
    """Settings with a signing key."""
    return having(settings, KEY)


@pytest.fixture
def refusals(settings: Settings) -> Refusals:
    """What workers refused."""
    return Refusals(connect(settings))


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def queued(settings: Settings) -> dict[str, Any]:
    """The one message in the queue `any`, taken out of it."""
    broker: Any = connect(settings)
    (text,) = (text for waiting in lists_of("any") for text in broker.lrange(waiting, 0, -1))
    broker.delete(*lists_of("any"))
    return json.loads(text)


def put(settings: Settings, message: dict[str, Any]) -> None:
    broker: Any = connect(settings)
    broker.lpush("any", json.dumps(message))


def refused(refusals: Refusals, wait_until: WaitUntil, count: int = 1) -> Refusal:
    wait_until(lambda: refusals.count >= count, "the message is refused")
    assert refusals.count == count
    assert refusals.last is not None
    return refusals.last


def test_signed_pipelines_are_computed_while_keys_are_changed_those_of_the_old_one_too(
    settings: Settings, refusals: Refusals, make_spec: MakeSpec
) -> None:
    new, old = PipelineClient(having(settings, KEY)), PipelineClient(having(settings, OTHER))
    with working(having(settings, KEY, OTHER)):
        status = finish(new, new.submit(make_spec()).id)
        again = new.retry(status.id).id

        assert status.state == finish(new, again).state == "done"
        assert finish(old, old.submit(make_spec()).id).state == "done"
    assert refusals.count == 0


def opened(message: dict[str, Any]) -> str:
    """What a message says, with its seal."""
    return zlib.decompress(base64.b64decode(message["body"])).decode()


def packed(text: str) -> dict[str, str]:
    """What a message is to say."""
    return {"body": base64.b64encode(zlib.compress(text.encode())).decode()}


def unsigned(message: dict[str, Any]) -> dict[str, Any]:
    """The message as a sender without the key would write it."""
    return message | packed(opened(message).partition(" ")[2]) | {"content-type": "application/json"}


def altered(message: dict[str, Any]) -> dict[str, Any]:
    """The message with another data set in it, behind the same seal."""
    return message | packed(opened(message).replace("digits", "os:list"))


def untyped(message: dict[str, Any]) -> dict[str, Any]:
    """The message with a type of content that kombu always lets through."""
    return unsigned(message) | {"content-type": "application/data"}


def unpacked(message: dict[str, Any]) -> dict[str, Any]:
    """The message as it cannot be unpacked: it already is."""
    return message | {"body": base64.b64encode(opened(message).encode()).decode()}


def of_another(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the seal of another key."""
    return message | {"content-type": "application/x-distill-signed-00000000"}


FORGERIES = {
    unsigned: "it is not signed",
    altered: "it was altered after it was signed",
    untyped: "content of type 'application/data'",
    unpacked: "it cannot be read",
    of_another: "another key than this worker has",
}


def test_forged_messages_are_refused_counted_and_kept_without_a_traceback(
    signed: Settings,
    refusals: Refusals,
    make_spec: MakeSpec,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, broker = PipelineClient(signed), connect(signed)
    pipeline = client.submit(make_spec()).id
    message = queued(signed)
    for forge in FORGERIES:
        put(signed, forge(message))

    with working(signed):
        wait_until(lambda: refusals.count >= len(FORGERIES), "the messages are refused")

    texts: Any = broker.lrange("distill:refused", 0, -1)
    kept = [Refusal.model_validate_json(text) for text in reversed(texts)]
    assert refusals.count == len(kept) == len(FORGERIES)
    for refusal, reason in zip(kept, FORGERIES.values(), strict=True):
        assert reason in refusal.reason
        assert (refusal.task, refusal.queue) == ("distill.prepare_data", "any")
        assert refusal.body
    assert client.status(pipeline).state == "waiting"
    lines = [record.message for record in caplog.records if "refused" in record.message]
    assert len(lines) == len(FORGERIES)
    assert all("distill.prepare_data" in line for line in lines)
    assert not [record for record in caplog.records if record.exc_info]


#: Headers of a message that a sender without the key might add.
HEADERS = {
    "task": "distill.report",
    "id": "another",
    "expires": "2001-01-01T00:00:00+00:00",
    "eta": "2099-01-01T00:00:00+00:00",
    "timelimit": [1, 1],
    "retries": 5,
    "shadow": {},
    "something": "else",
}


def test_headers_that_were_altered_after_they_were_signed_have_no_effect(
    signed: Settings, refusals: Refusals, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    client = PipelineClient(signed)
    pipeline = client.submit(make_spec()).id
    message = queued(signed)
    task = message["headers"]["id"]
    away = {"exchange": "celeryev", "routing_key": "gpu"}
    put(
        signed,
        message
        | {"headers": HEADERS | {"compression": message["headers"]["compression"]}}
        | {"properties": message["properties"] | {"delivery_info": away, "reply_to": "x", "correlation_id": "y"}},
    )

    with working(signed), caplog.at_level("INFO"):
        status = finish(client, pipeline)

    assert status.state == "done"
    assert refusals.count == 0
    assert f"/{task}/" in caplog.text, "the lease is that of the task that was signed"
    assert "/another/" not in caplog.text


def test_a_message_of_the_version_before_is_obeyed_and_its_headers_are_looked_at(
    signed: Settings, refusals: Refusals, make_spec: MakeSpec
) -> None:
    client = PipelineClient(signed)
    pipeline = client.submit(make_spec()).id
    message = queued(signed)
    body = json.loads(opened(message).partition(" ")[2])
    del body[2][SIGNED_HEADERS]
    before = message | packed(keyring(signed).seal("message", json.dumps(body)))
    put(signed, before | {"headers": before["headers"] | {"timelimit": "long"}})
    put(signed, before)

    with working(signed):
        status = finish(client, pipeline)

    assert status.state == "done"
    assert refusals.count == 1
    assert refusals.last is not None
    assert refusals.last.reason == "it cannot be read: the header 'timelimit' has a value that is not allowed"


def test_a_task_that_is_tried_again_is_signed_with_its_new_headers_and_no_older_ones(
    signed: Settings, refusals: Refusals, make_spec: MakeSpec, wait_until: WaitUntil
) -> None:
    PipelineClient(signed).submit(make_spec())
    message = queued(signed)
    body = json.loads(opened(message).partition(" ")[2])
    body[1]["stages"][0]["format"] = STAGE_FORMAT + 1  # As of a newer version, to which a worker leaves it.
    put(signed, message | packed(keyring(signed).seal("message", json.dumps(body))))
    broker: Any = connect(signed)

    def again() -> dict[str, Any] | None:
        taken = [json.loads(entry)[0] for entry in broker.hvals(broker.names.unacknowledged)]
        return next((each for each in taken if each["headers"]["retries"] == 1), None)

    with working(signed):
        message = wait_until(again, "the worker has taken the second try, for when it is due")

    headers = json.loads(opened(message).partition(" ")[2])[2][SIGNED_HEADERS]
    assert (headers["retries"], headers["eta"]) == (1, message["headers"]["eta"])
    assert headers["id"] == message["headers"]["id"]
    assert SIGNED_HEADERS not in headers
    assert SIGNED_HEADERS not in message["headers"]
    assert refusals.count == 0


@pytest.mark.parametrize(("clients", "workers"), [((), (KEY,)), ((KEY,), ()), ((OTHER,), (KEY,))])
def test_a_client_whose_key_differs_is_told_why_nothing_happens(
    settings: Settings,
    refusals: Refusals,
    make_spec: MakeSpec,
    wait_until: WaitUntil,
    clients: tuple[str, ...],
    workers: tuple[str, ...],
) -> None:
    client = PipelineClient(having(settings, *clients))
    pipeline = client.submit(make_spec()).id

    with working(having(settings, *workers)):
        refused(refusals, wait_until)
        wait_until(client.workers, "the worker enters itself")
        status = client.status(pipeline)
        findings = {finding.subject: finding for finding in examine(having(settings, *clients))}
        (worker,) = client.workers()
        served = client.served_queues()

    first = status.plan.trunk[0].key
    assert "DISTILL_SIGNING_KEY differs" in reasons(status, served)[first]
    assert findings[worker.name].state == "bad"
    assert "refuses what this client sends" in findings[worker.name].detail
    assert findings["refused"].detail.startswith("1 refused, the last")


def test_a_parked_message_that_somebody_else_put_there_is_not_sent(
    signed: Settings, refusals: Refusals, wait_until: WaitUntil
) -> None:
    broker: Any = connect(signed)
    forged = json.dumps({"task": "distill.prepare_data", "kwargs": {}, "options": {"queue": "any"}})
    broker.hset(f"distill:parked:{'0' * 64}", "task", f"{'0' * 32} {forged}")
    broker.sadd("distill:parked", "0" * 64)

    with working(signed):
        kept = refused(refusals, wait_until)

    assert "not signed" in kept.reason
    assert forged in kept.body
    assert not broker.exists(f"distill:parked:{'0' * 64}")
    assert not any(map(broker.llen, lists_of("any")))


def test_a_signed_message_for_something_else_is_not_taken_for_a_parked_one(signed: Settings) -> None:
    keyring = MainProcess.of(create(signed)).connections().kept_messages.keyring
    message = keyring.seal("message", "{}")

    with pytest.raises(Untrusted, match="signed for something else"):
        keyring.open("kept", message)


def test_a_plan_that_was_altered_at_the_broker_is_not_submitted_again(signed: Settings, make_spec: MakeSpec) -> None:
    client = PipelineClient(signed)
    pipeline = client.submit(make_spec()).id
    broker: Any = connect(signed)
    plan = broker.hget(f"distill:pipeline:{pipeline}", "plan")
    broker.hset(f"distill:pipeline:{pipeline}", "plan", plan.replace("digits", "os:list"))

    with pytest.raises(Untrusted, match="altered"):
        client.retry(pipeline)


def test_a_lost_input_is_not_made_again_by_a_plan_that_was_altered(
    signed: Settings, make_spec: MakeSpec, wait_until: WaitUntil
) -> None:
    plan, ledger = Plan.of(make_spec()), Ledger(connect(signed), signed.history_seconds)
    ledger.open("healed", plan)  # Without a seal.
    (stage,), _ = plan.branches[1]

    with working(signed):
        kwargs = {"pipeline": "healed", "stages": [stage.model_dump(mode="json")]}
        create(signed).tasks["distill.distill"].apply_async(kwargs=kwargs, queue="any")
        state = wait_until(lambda: (found := ledger.status("healed").states[stage.key]).error and found, "it fails")

    assert "and the pipeline's plan: it is not signed" in state.error


def test_a_submission_in_the_store_that_somebody_else_wrote_is_not_recovered(
    signed: Settings, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    client = PipelineClient(signed)
    pipeline = client.submit(make_spec()).id
    broker: Any = connect(signed)
    broker.flushall()
    submissions = Submissions(FolderStore(signed.folder))
    submission = submissions.find(pipeline)
    assert submission is not None
    canvas = submission.canvas.partition(" ")[2]
    submissions.enter(pipeline, submission.model_copy(update={"canvas": canvas}))

    with caplog.at_level("WARNING", "distill_queue.scheduler.client.client"):
        assert client.recover() == []
    assert "not signed" in caplog.text


def test_a_submission_whose_plan_somebody_else_wrote_is_not_recovered(
    signed: Settings, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    client = PipelineClient(signed)
    pipeline, other = (client.submit(make_spec(dataset={"name": name})).id for name in ("digits", "mnist_5k"))
    broker: Any = connect(signed)
    broker.flushall()
    submissions = Submissions(FolderStore(signed.folder))
    mine, theirs = (submissions.find(each) for each in (pipeline, other))
    assert mine is not None
    assert theirs is not None
    submissions.enter(pipeline, mine.model_copy(update={"plan": theirs.plan}))
    submissions.enter("copied", mine)

    with caplog.at_level("WARNING", "distill_queue.scheduler.client.client"):
        recovered = client.recover()

    assert recovered == [other]
    assert caplog.text.count("its plan is not the one whose messages are signed") == 2


def test_control_commands_are_obeyed_only_if_they_are_signed(
    settings: Settings, signed: Settings, refusals: Refusals, wait_until: WaitUntil
) -> None:
    control = create(signed).control
    with working(signed):
        wait_until(lambda: control.ping(timeout=0.5, limit=1), "the worker listens, and obeys who has the key")
        create(settings).control.broadcast("shutdown")
        kept = refused(refusals, wait_until)

        assert control.ping(timeout=2.0, limit=1), "the worker is still there"
    assert "not signed" in kept.reason


def test_the_key_is_in_no_text_that_is_shown(signed: Settings) -> None:
    shown = f"{signed!r} {signed} {MainProcess.of(create(signed)).connections()!r} {list(examine(signed))}"

    assert KEY not in shown
