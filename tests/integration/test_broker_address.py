"""Real servers: all clients reach the same database for each form of address; other servers are refused."""

from __future__ import annotations

import asyncio
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flower.options
import flower.utils.broker
import pytest
import redis
from celery import Celery
from typer.testing import CliRunner

from distill_queue.scheduler.cli.main import app as distill
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import FLOWER_SETTINGS, _valkey_binary
from distill_queue.shared.broker.celery_app import create_app, lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import free_port

WaitUntil = Callable[[Callable[[], Any], str], Any]
PASSWORD = "p/ä#?@:%[]+ &"


class Server:
    """A server of its own on a port and on a socket."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self.socket = free_port(), folder / "a server@[here].sock"
        listen = ["--port", str(self.port), "--unixsocket", str(self.socket), "--save", "", "--dir", str(folder)]
        self.child = Child("valkey", [_valkey_binary(), *listen, *options], {}, folder / "log")

    def url(self, scheme: str, database: int, login: str = "") -> str:
        """Its address."""
        if scheme == "redis":
            return f"redis://{login}127.0.0.1:{self.port}/{database}"
        return f"redis+socket://{login}{quote(str(self.socket))}?db={database}"

    def client(self, database: int, **options: Any) -> Any:
        """A client that reads no URL."""
        return redis.Redis(unix_socket_path=str(self.socket), db=database, decode_responses=True, **options)


@pytest.fixture
def start_server(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Callable[..., Server]]:
    """Start servers, and end them."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        server = Server(tmp_path, *options)
        servers.append(server)
        server.child.start()
        wait_until(lambda: server.socket.exists() or not server.child.alive, "the server listens")
        assert server.child.alive, server.child.last_lines()
        return server

    yield start
    for server in servers:
        server.child.ask_to_end()
        server.child.end(deadline=float("inf"))


def waiting_in_flower(app: Celery, settings: Settings) -> int:
    """How many messages Flower's page of the broker shows for the queue `any`."""
    runpy.run_path(str(FLOWER_SETTINGS))
    with app.connection_for_read() as connection:
        url = connection.as_uri(include_password=True)
    broker = flower.utils.broker.Broker(url, http_api="", broker_options=app.conf.broker_transport_options)
    with ThreadPoolExecutor() as thread:  # A browser of another test may have a loop in this one.
        (queue,) = thread.submit(lambda: asyncio.run(broker.queues(["any"]))).result()
    return int(queue["messages"])


@pytest.mark.parametrize("scheme", ["redis", "redis+socket"])
def test_records_queues_and_results_are_in_one_database(
    start_server: Callable[..., Server], make_spec: Callable[..., PipelineSpec], tmp_path: Path, scheme: str
) -> None:
    server = start_server("--requirepass", PASSWORD)
    for number, database in enumerate((0, 2, 15), start=1):
        url = server.url(scheme, database, f":{quote(PASSWORD, safe='')}@")
        settings = Settings(broker_url=url, store=tmp_path / "store")
        client, app = PipelineClient(settings), create_app(settings)

        pipelines = [client.submit(make_spec()).id for _ in range(number)]
        app.backend.store_result("task", "done", "SUCCESS")

        with server.client(database, password=PASSWORD) as there:
            assert sum(map(there.llen, lists_of("any"))) == number
            assert waiting_in_flower(app, settings) == number
            assert there.exists(f"distill:pipeline:{pipelines[-1]}", "celery-task-meta-task") == 2
        app.close()
    with server.client(0, password=PASSWORD) as there:
        assert set(there.info("keyspace")) == {"db0", "db2", "db15"}


def test_a_database_that_the_server_does_not_have_is_one_error(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    settings = Settings(broker_url=start_server().url("redis", 99), store=tmp_path)

    with pytest.raises(BrokerUnavailable, match=r"the broker at .*/99 refuses: it has no database of the number at"):
        connect(settings)


@pytest.mark.parametrize("database", [0, 2])
def test_a_node_of_a_cluster_is_refused_alike_everywhere(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: int
) -> None:
    server = start_server("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-databases", "16")
    with server.client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "-@all", "+select", "+client|setinfo")
    url = server.url("redis", database, "poor:secret@")
    monkeypatch.setenv("DISTILL_BROKER_URL", url)
    monkeypatch.setenv("DISTILL_STORE", str(tmp_path / "store"))

    findings = {finding.subject: finding for finding in examine(Settings.load())}
    commands = [CliRunner().invoke(distill, command) for command in (["status"], ["worker"], ["queues"])]
    celery = [str(Path(sys.executable).with_name("celery")), "-A", "distill_queue.worker.app", "worker"]
    worker = subprocess.run(celery, capture_output=True, text=True, check=False)

    assert findings["broker"].state == "bad"
    assert "node of a Redis Cluster, which spreads keys" in findings["broker"].detail
    assert "use a server that is no cluster" in findings["broker"].detail
    assert worker.returncode == 3
    assert findings["broker"].detail in worker.stdout + worker.stderr
    assert "Traceback" not in worker.stdout + worker.stderr
    for done in commands:
        assert isinstance(done.exception, BrokerUnavailable)
        assert str(done.exception) == findings["broker"].detail
        assert "secret" not in str(done.exception)
