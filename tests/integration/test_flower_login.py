"""Flower lets in the users that the environment names, by the whole password."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from distill_queue.scheduler.stack.child import Child, celery_command
from distill_queue.scheduler.stack.local import FLOWER_SETTINGS, LocalStack
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.settings import Settings


def status(port: int, login: str) -> int:
    """The status with which Flower answers a login; 0 while it does not listen yet."""
    authorization = f"Basic {b64encode(login.encode()).decode()}"
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}/workers", headers={"Authorization": authorization})) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except URLError:
        return 0


def test_a_password_with_a_comma_lets_in_who_knows_all_of_it(
    settings: Settings, tmp_path: Path, wait_until: Callable[[Callable[[], Any], str], Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    login = {"FLOWER_USER": "me", "FLOWER_PASSWORD": "half,you:rest"}
    command = celery_command("flower", f"--conf={FLOWER_SETTINGS}", f"--port={port}", f"--db={tmp_path / 'history'}")
    flower = Child("flower", command, settings.environment | login, tmp_path / "log")

    flower.start()
    try:
        wait_until(lambda: status(port, "me:half,you:rest") == 200, "Flower lets in who knows the password")
        answers = [status(port, login) for login in ("me:half", "you:rest", "me:", ":", "", "me:half,you:rest,")]
    finally:
        flower.ask_to_end()
        flower.end(deadline=float("inf"))

    assert answers == [401] * 6


NO_NUMBERS: list[Any] = ["text", None, float("nan"), float("inf"), -1, 10**30, {"a": [1]}, [[]], True, "\ud800"]
EVENT = {"hostname": "w@x", "timestamp": 1e9, "utcoffset": 0, "clock": 1, "pid": 1}
FIELDS_OF_WORKERS = ("loadavg", "freq", "active", "processed", "sw_ident", "pid", "clock", "timestamp", "utcoffset")
FIELDS_OF_TASKS = ("uuid", "name", "runtime", "retries", "eta", "kwargs", "args", "result", "worker", "clock", "state")


def events_of_strangers() -> Iterator[Any]:
    """Messages that look like events, and that no worker sends."""
    for value in NO_NUMBERS:
        yield from (EVENT | {"type": kind, "hostname": value} for kind in ("worker-online", "task-sent"))
        for name in (*FIELDS_OF_WORKERS, "heartbeats", "event", "alive", "__class__", "hostname"):
            yield EVENT | {"type": "worker-heartbeat", "hostname": f"w@{name}", "freq": 2, name: value}
        for name in (*FIELDS_OF_TASKS, "cluster_state", "children", "root", "parent", "event"):
            for kind in ("task-received", "task-succeeded"):
                yield EVENT | {"type": kind, "uuid": f"{name} {value!r}"[:30], "name": "t", name: value}
    yield EVENT | {"type": "task-received", "uuid": "deep", "kwargs": "1" + "+1" * 3_000}
    yield EVENT | {"type": "task-received", "uuid": "unhashable", "kwargs": "{[]: 1}"}
    yield from ([], {}, None, 7, "x", [None], {"type": {}}, {"type": "worker-online"}, [[[]]], {"type": "task-"})


def test_every_page_of_flower_is_served_whatever_events_strangers_have_sent(
    settings: Settings, tmp_path: Path, wait_until: Callable[[Callable[[], Any], str], Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    login = {"FLOWER_USER": "me", "FLOWER_PASSWORD": "pass", "FLOWER_UNAUTHENTICATED_API": "true"}
    command = celery_command("flower", f"--conf={FLOWER_SETTINGS}", f"--port={port}", f"--db={tmp_path / 'history'}")
    flower = Child("flower", command, settings.environment | login, tmp_path / "log")
    authorization = {"Authorization": f"Basic {b64encode(b'me:pass').decode()}"}

    def page(path: str) -> str:
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=authorization)) as answer:
                return str(answer.read().decode())
        except URLError as error:
            return f"{path}: {error}"

    columns = "draw=1&start=0&length=999&order[0][column]=0&order[0][dir]=asc"
    orders = [f"/tasks/datatable?{columns}&columns[0][data]={name}" for name in ("", "runtime", "received", "name")]
    pages = ["/workers", "/workers?json=1", "/tasks", "/metrics", "/api/tasks", "/api/workers?status=1", *orders]
    app = create_app(settings)

    flower.start()
    try:
        wait_until(lambda: status(port, "me:pass") == 200, "Flower serves its pages")
        with app.connection_for_write() as connection, app.events.Dispatcher(connection) as sender:
            exchange = sender.exchange
            send = partial(sender.producer.publish, exchange=exchange, routing_key="worker.x", declare=[exchange])
            known = EVENT | {"type": "worker-heartbeat", "freq": 2.0, "timestamp": time.time()}

            def heard(name: str) -> bool:
                send(known | {"hostname": name})
                return name in page("/workers?json=1")

            wait_until(lambda: heard("first@here"), "a worker is heard of")
            for event in events_of_strangers():
                send(event)
            wait_until(lambda: heard("last@here"), "a later worker is heard of")
        answers = {path: page(path) for path in (*pages, "/task/name%20%27text%27", "/task/clock%20None")}
    finally:
        flower.ask_to_end()
        flower.end(deadline=float("inf"))

    assert [answer for path, answer in answers.items() if answer.startswith(path)] == []
    assert "w@loadavg" in answers["/workers"]
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "Failed to capture" not in (tmp_path / "log").read_text()


def test_flower_does_not_start_with_a_login_that_would_let_in_others(settings: Settings) -> None:
    environment = os.environ | settings.environment | {"FLOWER_BASIC_AUTH": "me:a,b"}
    command = [sys.executable, "-m", "worker", "flower", f"--conf={FLOWER_SETTINGS}"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.stderr.startswith("error: FLOWER_BASIC_AUTH, login 2 of 2: not user:password; ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_up_says_so_before_it_starts_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "me:")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stack = LocalStack(Settings(store=str(tmp_path / "store")), flower_port=port)

    with pytest.raises(InvalidSettings, match="FLOWER_BASIC_AUTH: the password is empty"), stack:
        pass

    assert stack.children == []
