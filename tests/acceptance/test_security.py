"""A broker across a network: TLS with an own authority, users with the least rights, signed messages; as documented."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import redis

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.stack.child import Child, celery_command
from distill_queue.shared.broker.celery_app import create_app, lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.coordination.attempts import Attempts
from tests.acceptance.conftest import DISTILL, free_port
from tests.conftest import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
KEY = "a key of enough letters"
#: Ends TLS before a server's socket: the arguments are that socket, a port, a certificate and its key.
FRONT = """
import asyncio, ssl, sys
path, port, certificate, key = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)

async def pump(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()

async def serve(reader, writer):
    inner, outer = await asyncio.open_unix_connection(path)
    await asyncio.gather(pump(reader, outer), pump(inner, writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(port), ssl=context)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def block(language: str, beginning: str) -> str:
    """The block of the page that begins so."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if text.startswith(beginning))
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority and a broker's certificate, made by the page's own commands."""
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["bash", "-ec", block("sh", "BROKER_HOST")], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path, broker_url: str) -> Iterator[int]:
    """A port of a real server behind TLS: the embedded one has none of its own, so Python's ends it before it."""
    port = free_port()
    arguments = [broker_url.partition("://")[2], str(port), "broker.pem", "broker.key"]
    front = Child("front", [sys.executable, "-c", FRONT, *arguments], {}, certificates / "front.log")
    with contextlib.chdir(certificates):
        front.start()
    try:
        wait_until(lambda: "ready" in front.last_lines(100), "TLS is served")
        yield port
    finally:
        front.ask_to_end()
        front.end(deadline=float("inf"))


@pytest.fixture
def prefix() -> str:
    """The project's name before its keys."""
    return ""


@pytest.fixture
def server(settings: Settings, prefix: str, tmp_path: Path) -> Iterator[Any]:
    """The server, with the page's users."""
    (tmp_path / "users.acl").write_text(block("acl", "user"))
    if prefix:
        subprocess.run(["bash", "-ec", block("sh", "sed").replace("project", prefix)], cwd=tmp_path, check=True)
    text = (tmp_path / (f"{prefix}.acl" if prefix else "users.acl")).read_text()
    with redis.Redis(**settings.broker.redis_options, decode_responses=True) as client:
        server: Any = client
        users = [line for line in text.splitlines() if "default" not in line]
        for line in users:
            server.execute_command("ACL", "SETUSER", *shlex.split(line)[1:])
        server.acl_log_reset()
        yield server
        server.acl_deluser(*(line.split()[1] for line in users))


@pytest.fixture
def as_user(settings: Settings, certificates: Path, tls_port: int, prefix: str) -> Callable[[str], Settings]:
    """The settings of a process that is one of the page's users."""

    def make(user: str) -> Settings:
        url = f"rediss://distill-{user}:{user.upper()}_PASSWORD@localhost:{tls_port}/0"
        return Settings(
            broker_url=url,
            prefix=prefix,
            broker_ca=certificates / "ca.pem",
            signing_key=KEY,
            store=settings.folder,
            threads=1,
            visibility_timeout_seconds=3.0,
        )

    return make


@pytest.mark.parametrize("prefix", ["", "red"], ids=["no prefix", "a prefix"])
def test_a_pipeline_goes_through_tls_with_the_rights_that_the_page_gives(
    server: Any,
    as_user: Callable[[str], Settings],
    make_spec: Callable[..., PipelineSpec],
    prefix: str,
    tmp_path: Path,
) -> None:
    port = free_port()
    flower = Child(
        "flower",
        celery_command("flower", "--address=127.0.0.1", f"--port={port}"),
        as_user("flower").environment | {"FLOWER_UNAUTHENTICATED_API": "1"},
        tmp_path / "flower.log",
    )
    worker = Child("worker", [*DISTILL, "worker", "--devices", "cpu"], as_user("worker").environment, tmp_path / "log")
    try:
        worker.start()
        flower.start()
        client = PipelineClient(as_user("client"))
        wait_until(client.workers, "the worker enters itself")
        wait_until(lambda: "Connected to rediss" in flower.log.read_text(), "Flower listens")

        first, cancelled = client.submit(make_spec()).id, client.submit(make_spec(name="other")).id
        client.cancel(cancelled)
        *_, status = client.watch(first)
        *_, again = client.watch(client.retry(first).id)
        findings = {finding.subject: finding for finding in examine(as_user("client"))}
        queues = client.queues()
        tasks = wait_until(lambda: _tasks(port), "Flower has seen tasks")
    finally:
        for child in (worker, flower):
            child.ask_to_end()
            child.end(deadline=float("inf"))

    assert status.state == again.state == "done"
    assert {queue.running for queue in queues} != {None}
    assert not prefix or all(key.startswith(f"{prefix}:") for key in server.scan_iter(count=1000))
    assert "distill.report" in tasks
    assert server.acl_log() == [], "the rights suffice"
    assert {name for name, finding in findings.items() if finding.state == "bad"} == set()
    assert findings["link"].detail.startswith("encrypted")
    assert findings["messages"].detail.startswith("signed")
    assert "Traceback" not in worker.log.read_text() + flower.log.read_text()


def _tasks(port: int) -> set[str]:
    """Names of the finished tasks that Flower knows."""
    with urlopen(f"http://127.0.0.1:{port}/api/tasks?state=SUCCESS") as answer:
        return {task["name"] for task in json.load(answer).values()}


def test_records_queues_and_results_are_in_one_database_behind_tls_too(
    settings: Settings, certificates: Path, tls_port: int, make_spec: Callable[..., PipelineSpec]
) -> None:
    there = {"broker_url": f"rediss://localhost:{tls_port}/3", "broker_ca": certificates / "ca.pem"}
    behind = settings.model_copy(update=there)

    pipeline = PipelineClient(behind).submit(make_spec()).id
    app = create_app(behind)
    app.backend.store_result("task", "done", "SUCCESS")
    app.close()

    with redis.Redis(**settings.broker.redis_options | {"db": 3}) as client:
        keys = {key.decode() for key in client.scan_iter(count=1000)}
    assert {f"distill:pipeline:{pipeline}", "celery-task-meta-task", lists_of("any")[1]} <= keys
    assert set(connect(settings).info("keyspace")) == {"db3"}


@pytest.mark.parametrize(
    ("url", "with_authority", "message"),
    [
        (
            "rediss://distill-client:CLIENT_PASSWORD@localhost",
            False,
            "CERTIFICATE_VERIFY_FAILED.*set DISTILL_BROKER_CA",
        ),
        ("rediss://distill-client:CLIENT_PASSWORD@127.0.0.1", True, "not valid for '127.0.0.1'.*call the broker by"),
        ("rediss://distill-client:wrong@localhost", True, "invalid username-password pair.*set its user and password"),
        ("redis://distill-client:CLIENT_PASSWORD@localhost", False, "closed by server.*use rediss://"),
    ],
)
def test_a_broker_that_is_not_reached_as_it_should_be_is_one_error_at_once(
    server: Any, settings: Settings, certificates: Path, tls_port: int, url: str, with_authority: bool, message: str
) -> None:
    authority = certificates / "ca.pem" if with_authority else None
    wrong = Settings(broker_url=f"{url}:{tls_port}/0", broker_ca=authority, store=settings.folder)
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable, match=message) as raised:
        PipelineClient(wrong)

    assert time.monotonic() - began < 10.0
    assert "CLIENT_PASSWORD" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("prefix", ["red"])
def test_a_client_of_one_project_may_not_touch_what_another_one_has(
    server: Any, as_user: Callable[[str], Settings]
) -> None:
    client: Any = connect(as_user("client"))

    for name in ("any", "blue:any", "distill:pipelines", "blue:distill:pipelines"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.lpush(name, "{}")
    assert client.lpush("red:any", "{}") == 1


@pytest.mark.parametrize("prefix", ["", "red"], ids=["no prefix", "a prefix"])
def test_a_worker_may_note_how_each_of_its_attempts_ended(server: Any, as_user: Callable[[str], Settings]) -> None:
    client = connect(as_user("worker"))
    attempts = Attempts(client, client, limit=3, history_seconds=60, instance="a")

    for end in (attempts.withdraw, partial(attempts.end, reason="a bug"), partial(attempts.blame, reason="killed")):
        attempts.begin(["key"], "worker")
        end(["key"], "worker")
    attempts.got_further(["key"], "worker")

    assert attempts.begin(["key"], "worker") == 2
    assert server.acl_log() == [], "the rights suffice"


def test_a_client_may_not_read_queues_or_command_workers(server: Any, as_user: Callable[[str], Settings]) -> None:
    client: Any = connect(as_user("client"))

    for command in (
        ("LRANGE", "any", 0, -1),
        ("BRPOP", "any", 1),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
        ("FLUSHALL",),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)
