"""What integration tests share: the command in their own process, a plan, and an object store over HTTP."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from distill_queue.scheduler.cli.main import main
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec


@pytest.fixture
def plan(make_spec: Callable[..., PipelineSpec]) -> Plan:
    """Some plan."""
    return Plan.of(make_spec())


@pytest.fixture
def stage(plan: Plan) -> Stage:
    """Some stage."""
    return plan.trunk[0]


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    """The URL of an S3 server for the whole session."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, as `s3://name`."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": object_server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/distill"


class Wire:
    """A way to the object store on which connections can be cut, each after so many bytes of one direction."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self._lock = (host, port), threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        #: Bytes after which connections are cut, and how many are still to be cut.
        self.sent_bytes = self.received_bytes = sys.maxsize
        self.to_cut = 0
        self.cuts = 0
        #: Bytes that came back.
        self.passed_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let no more connections in."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, which in ((client, server, "sent_bytes"), (server, client, "received_bytes")):
                threading.Thread(target=self._pass_on, args=(source, sink, which), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, which: str) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                passed += len(data)
                if passed > getattr(self, which) and self._cuts():
                    break
                sink.sendall(data)
                if which == "received_bytes":
                    with self._lock:
                        self.passed_bytes += len(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _cuts(self) -> bool:
        with self._lock:
            if self.to_cut == 0:
                return False
            self.to_cut -= 1
            self.cuts += 1
            return True


@pytest.fixture
def wire(object_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """All that goes to the object store and comes from it."""
    parts = urlsplit(object_server)
    wire = Wire(str(parts.hostname), int(parts.port or 0))
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    yield wire
    wire.close()


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: its exit code, and what it printed and complained of."""
    for name in [name for name in os.environ if name.startswith("DISTILL_")]:
        monkeypatch.delenv(name)
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("distill_queue.scheduler.cli.main.signal.signal", lambda *_: None)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run
