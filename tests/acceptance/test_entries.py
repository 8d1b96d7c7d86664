"""No entry at the broker ends a worker: real workers, with and without a key, and entries of all kinds."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child, worker_command
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.broker.celery_app import create_app, keyring, lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.fields import SIGNED_HEADERS
from distill_queue.shared.ledger.refusals import Refusal, Refusals
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.conftest import wait_until

MakeSpec = Callable[..., PipelineSpec]
Message = dict[str, Any]
KEY = "a key of enough letters"


@dataclass(frozen=True, slots=True)
class Fleet:
    """A worker, and what is at its broker."""

    settings: Settings
    worker: Child
    pid: int
    broker: Any

    @property
    def prefix(self) -> str:
        return self.broker.names.prefix

    @property
    def refusals(self) -> Refusals:
        return Refusals(self.broker)

    def must_go_on(self, spec: PipelineSpec) -> None:
        """Have the worker do a pipeline, and look whether it is the one that was started."""
        client = PipelineClient(self.settings)
        *_, status = client.watch(client.submit(spec).id)
        log = self.worker.log.read_text()
        assert status.state == "done"
        assert self.worker.alive
        assert self.worker.pid == self.pid
        assert "Connection to broker lost" not in log
        assert "Traceback" not in log
        assert log.count(" ready.") == 1

    def must_have_refused(self, count: int, since: int) -> list[Refusal]:
        """Wait until so many are refused, and look whether it stays at that."""
        wait_until(lambda: self.refusals.count >= since + count, f"{count} entries are refused")
        texts = self.broker.lrange(self.broker.names.refused, 0, count - 1)
        assert self.refusals.count == since + count
        return [Refusal.model_validate_json(text) for text in reversed(texts)]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> Iterator[dict[str, Fleet]]:
    """Two workers at one server: one obeys what is signed, the other one, behind a prefix, anybody."""
    folder = tmp_path_factory.mktemp("entries")
    with LocalStack(Settings(store=folder / "server"), workers=0) as stack:
        url, fleets = stack.settings.broker_url, {}
        for name, own in {"signed": {"signing_key": KEY}, "open": {"prefix": "open"}}.items():
            settings = Settings(broker_url=url, store=folder / name, threads=1, visibility_timeout_seconds=3.0, **own)
            worker = Child(name, worker_command("cpu,any", name), settings.environment, folder / f"{name}.log")
            worker.start()
            fleets[name] = Fleet(settings, worker, worker.pid, connect(settings))
        try:
            for fleet in fleets.values():
                wait_until(PipelineClient(fleet.settings).workers, "the worker enters itself")
            for fleet in fleets.values():  # Both load torch at the same time.
                PipelineClient(fleet.settings).submit(make_spec())
            yield fleets
        finally:
            for fleet in fleets.values():
                fleet.worker.ask_to_end()
            for fleet in fleets.values():
                fleet.worker.end(deadline=float("inf"))


@pytest.fixture(params=["signed", "open"])
def fleet(workers: dict[str, Fleet], request: pytest.FixtureRequest) -> Fleet:
    """Each of them."""
    return workers[request.param]


@pytest.fixture
def signed(workers: dict[str, Fleet]) -> Fleet:
    """The one that obeys what is signed."""
    return workers["signed"]


def genuine(fleet: Fleet, spec: PipelineSpec) -> Message:
    """A message of the version before this one, that is, without signed headers, as this worker's clients send it."""
    elsewhere = fleet.settings.model_copy(
        update={"prefix": "elsewhere", "store": str(fleet.settings.folder / "elsewhere")}
    )
    broker: Any = connect(elsewhere)
    PipelineClient(elsewhere).submit(spec)
    (text,) = (text for name in lists_of("any", "elsewhere:") for text in broker.lrange(name, 0, -1))
    broker.delete(*lists_of("any", "elsewhere:"))
    message = json.loads(text)
    body = said(message)
    body[2].pop(SIGNED_HEADERS, None)
    return saying(fleet, message, json.dumps(body))


def said(message: Message) -> Any:
    """What a message says, without its seal."""
    text = zlib.decompress(base64.b64decode(message["body"])).decode()
    return json.loads(text[text.find("[") :])


def saying(fleet: Fleet, message: Message, text: str) -> Message:
    """The message with another body, sealed if the worker has a key."""
    keys = keyring(fleet.settings)
    sealed = keys.seal("message", text).encode()
    return message | {"body": base64.b64encode(zlib.compress(sealed)).decode()}


def headed(message: Message, **headers: Any) -> Message:
    return message | {"headers": message["headers"] | headers}


def owning(message: Message, **properties: Any) -> Message:
    return message | {"properties": message["properties"] | properties}


def without(message: Message, *path: str) -> Message:
    first, *rest = path
    if rest:
        return message | {first: without(message[first], *rest)}
    return {name: value for name, value in message.items() if name != first}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def rubbish(fleet: Fleet, message: Message) -> dict[str, bytes]:
    """What a list may hold, by name."""
    _, keywords, embedded = said(message)
    stage = keywords["stages"][0]
    deep = json.loads(nested(900))
    task = {"task": "distill.evaluate", "args": [], "kwargs": keywords, "options": {}, "immutable": True}
    chord = task | {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": 5, "body": 5}}
    bodies = {
        "no arguments": "[]",
        "two parts": "[[],{}]",
        "four parts": "[[],{},{},{}]",
        "a body that is an object": "{}",
        "arguments that are an object": "[{},{},{}]",
        "an argument without a name": json.dumps([[5], keywords, embedded]),
        "an argument of Celery's": json.dumps([[], keywords | {"self": 5}, embedded]),
        "no stages": json.dumps([[], {"pipeline": "of nothing"}, embedded]),
        "a stage without a key": json.dumps([[], keywords | {"stages": [{}]}, embedded]),
        "a stage of no format": json.dumps([[], keywords | {"stages": [stage | {"format": "new"}]}, embedded]),
        "deep arguments": f'[[],{{"stages": {nested(900)}}},{{}}]',
        "a deep recipe": json.dumps([[], keywords | {"stages": [stage | {"recipe": deep}]}, embedded]),
        "stages that are a number": json.dumps([[], keywords | {"stages": 5}, embedded]),
        "a chain that is a number": json.dumps([[], keywords, embedded | {"chain": 5}]),
        "a chain of what is no task": json.dumps([[], keywords, embedded | {"chain": [{}]}]),
        "a chain of a task without stages": json.dumps([[], keywords, embedded | {"chain": [task | {"kwargs": {}}]}]),
        "a task after it that is a number": json.dumps([[], keywords, embedded | {"callbacks": [5]}]),
        "a chord that is a list": json.dumps([[], keywords, embedded | {"chord": []}]),
        "a chord of two numbers": json.dumps([[], keywords, embedded | {"chord": chord}]),
        "a body of half a bracket": "[",
        "a body too deep to read": "[" * 200_000,
    }
    headers: dict[str, Any] = {
        "task": [{}, None, 5, [], "", "no such task", "distill.\ud800"],
        "id": [{}, [], None, 5, "", "a\nb", "x" * 10_000],
        "timelimit": [["a", "b"], [1], 5, [None], [float("nan"), None], [-1, -1]],
        "eta": [{}, "yesterday", 5, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
        "expires": [{}, "yesterday", 5, float("inf"), 10**400, "0001-01-01T00:00:00+14:00"],
        "stamped_headers": [5, [{}]],
        "stamps": [5],
        "retries": [{}, "many", -1, 10**30],
        "shadow": [{}, "\x1b[2J"],
        "argsrepr": [{}, None],
        "kwargsrepr": [{}, None],
        "group": [{}],
        "root_id": [{}],
        "replaced_task_nesting": ["deep"],
        "distill_due": ["now", float("nan")],
        "compression": [{}, "application/x-lzma", "application/x-nothing"],
        "clock": [{}, float("inf")],
        "something": [deep],
    }
    properties: dict[str, Any] = {
        "delivery_info": [[], None, {}, {"exchange": 5, "routing_key": []}],
        "delivery_tag": [None, {}, 5, "\ud800"],
        "body_encoding": [{}, "utf-7", None],
        "priority": ["high", {}, float("nan"), float("inf"), 10**400],
    }
    bomb = base64.b64encode(zlib.compress(bytes(65 * 2**20))).decode()
    messages = {
        **{name: saying(fleet, message, body) for name, body in bodies.items()},
        **{
            f"{name} {value!r:.30}": headed(message, **{name: value})
            for name, values in headers.items()
            for value in values
        },
        **{
            f"{name} {value!r:.30}": owning(message, **{name: value})
            for name, values in properties.items()
            for value in values
        },
        "no id": without(message, "headers", "id"),
        "no task": without(message, "headers", "task"),
        "no headers": without(message, "headers"),
        "no properties": without(message, "properties"),
        "no delivery tag": without(message, "properties", "delivery_tag"),
        "no delivery info": without(message, "properties", "delivery_info"),
        "no body": without(message, "body"),
        "headers that are a list": message | {"headers": [1]},
        "properties that are a list": message | {"properties": [1]},
        "a content type that is an object": message | {"content-type": {}},
        "no content type": without(message, "content-type"),
        "a content type that Python unpickles": message | {"content-type": "application/x-python-serialize"},
        "an encoding that is a number": message | {"content-encoding": 7},
        "a body that is not base64": message | {"body": "*"},
        "a body that is base64 of nothing packed": message | {"body": base64.b64encode(b"[]").decode()},
        "a body that is a number": message | {"body": 5},
        "a body that is cut off": message
        | {"body": base64.b64encode(base64.b64decode(message["body"])[:-20]).decode()},
        "a body that unpacks to 65 MiB": message | {"body": bomb},
    }
    return {
        **{name: json.dumps(each).encode() for name, each in messages.items()},
        **{
            repr(text): text.encode()
            for text in ("x", "", "[]", "1", "null", '"text"', "true", "{}", "NaN", '{"body"', "\x00", "1" * 5_000)
        },
        "deep brackets": b"[" * 200_000,
        "brackets beside each other": b"[" + b"[]," * 100_000 + b"[]]",
        "no UTF-8": b"\xff\xfe{}",
        "UTF-16": "{}".encode("utf-16"),
        "half a character": b'{"headers": {}, "properties": {"delivery_tag": "\xed\xa0\x80"}}',
    }


def test_what_lies_in_a_list_is_refused_and_the_worker_goes_on(fleet: Fleet, make_spec: MakeSpec) -> None:
    entries, since = rubbish(fleet, genuine(fleet, make_spec())), fleet.refusals.count

    for entry in entries.values():
        fleet.broker.lpush(f"{fleet.prefix}any", entry)
    refused = fleet.must_have_refused(len(entries), since)

    fleet.must_go_on(make_spec())
    assert len(entries) > 100
    assert {refusal.queue for refusal in refused} == {"any"}
    assert all(refusal.reason.startswith(("it cannot be read: ", "it is")) for refusal in refused)


def test_what_is_published_to_workers_is_refused_and_they_go_on(fleet: Fleet, make_spec: MakeSpec) -> None:
    message = genuine(fleet, make_spec())
    bodies = ["[]", "5", '{"method": 5}', '{"method": "ping", "arguments": []}', '{"method": "ping", "reply_to": []}']
    commands = {body: json.dumps(saying(fleet, message, body)) for body in bodies} | {
        "a task": json.dumps(message),
        "its clock": json.dumps(headed(saying(fleet, message, '{"method": "ping"}'), clock={})),
    }
    rubbish = [
        "",
        "[]",
        "x",
        "1",
        "{}",
        "[" * 200_000,
        "\x00",
        json.dumps({"properties": {}, "headers": {}, "body": ""}),
    ]
    since = fleet.refusals.count

    for command in [*rubbish, *commands.values()]:
        fleet.broker.publish(f"{fleet.prefix}/0.celery.pidbox", command)
        for event in ("worker.online", "worker.elect", "\udcff"):
            fleet.broker.publish(f"{fleet.prefix}/0.celeryev/{event}".encode(errors="surrogateescape"), command)
    refused = fleet.must_have_refused(len(rubbish) + len(commands), since)

    assert create_app(fleet.settings, keeps_results=False).control.ping(timeout=5.0, limit=1)
    fleet.must_go_on(make_spec())
    assert {refusal.queue for refusal in refused} == {"celery.pidbox", "any"}


def test_what_lies_among_the_taken_messages_is_refused_once_and_holds_up_nothing(
    signed: Fleet, make_spec: MakeSpec
) -> None:
    message, broker, since = genuine(signed, make_spec()), signed.broker, signed.refusals.count
    bad = [
        "no JSON",
        "[]",
        "5",
        '[{}, "", "any"]',
        '["", "", "any"]',
        "[" * 200_000,
        json.dumps([message, "", "distill:pipelines"]),
        json.dumps([message, "celeryev", "any"]),
        json.dumps([message, {}, []]),
        json.dumps([owning(message, priority=float("inf")), "", "any"]),
        json.dumps([owning(message, delivery_info=5), "", "any"]),
    ]
    taken = dict(enumerate([*bad, json.dumps([message, "", "any"])]))

    broker.hset("unacked", mapping=taken)
    broker.zadd("unacked_index", dict.fromkeys([*taken, "nothing there"], 1.0))
    signed.must_have_refused(len(bad), since)

    signed.must_go_on(make_spec())
    wait_until(lambda: not broker.exists("unacked", "unacked_index"), "what is not refused is done")


def test_keys_of_another_type_cost_what_is_in_them(signed: Fleet, make_spec: MakeSpec) -> None:
    own, since = ("unacked", "unacked_index", "_kombu.binding.celery.pidbox"), signed.refusals.count
    others = ("unacked_mutex", *lists_of("cpu"))
    with signed.broker.pipeline() as pipe:
        pipe.delete(*own, "unacked_mutex")
        for key in (*own, *others):
            pipe.set(key, "something else")
        pipe.execute()

    signed.must_go_on(make_spec())
    wait_until(lambda: signed.broker.ttl("unacked_mutex") != -1, "the lock that nobody holds ends by itself")

    signed.must_have_refused(len(own), since)
    assert signed.broker.delete(*lists_of("cpu")) == len(lists_of("cpu")), (
        "what may be another program's is left as it is"
    )


def test_who_watches_events_goes_on_after_what_is_no_message(signed: Fleet) -> None:
    app, seen = create_app(signed.settings, keeps_results=False), []

    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        capturing = receiver.itercapture(limit=None, timeout=30.0)
        next(capturing)
        for text in ("", "[]", "x", "[" * 200_000):
            signed.broker.publish("/0.celeryev/worker.online", text)
            signed.broker.publish(b"/0.celeryev/\xff", text)
        signed.broker.publish("/0.celeryev/worker.online", json.dumps({"properties": {}, "headers": {}}))
        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("worker-heartbeat")
        while not seen or seen[-1]["type"] != "worker-heartbeat":
            next(capturing)
        capturing.close()
    app.close()

    assert {each["type"] for each in seen} <= {"worker-online", "worker-heartbeat", "task-sent"}
