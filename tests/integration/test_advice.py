"""The advice if a broker answers and refuses: a real server for each reason."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.maintenance.finding import Finding
from distill_queue.scheduler.stack.local import _valkey_binary
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]


class Server:
    """A server of its own, behind a socket that is no part of its folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "s"
        command = [_valkey_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.data)]
        self._process = subprocess.Popen([*command, "--save", "", *options], stdout=subprocess.DEVNULL)
        self.client: Any = redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))

    def settings(self, login: str = "") -> Settings:
        return Settings(broker_url=f"redis+socket://{login}{self.socket}", store=self.socket.parent / "store")

    def answers(self) -> bool:
        try:
            self.client.ping()
        except (redis.ResponseError, redis.AuthenticationError, redis.exceptions.BusyLoadingError):
            return True
        except redis.ConnectionError:
            return False
        return True

    def end(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Callable[..., Server]]:
    """Start a server with options of its own."""
    with ExitStack() as servers:

        def start(*options: str) -> Server:
            server = Server(tmp_path, *options)
            servers.callback(server.end)
            wait_until(server.answers, "the server answers")
            return server

        yield start


def refused(settings: Settings, spec: PipelineSpec) -> str:
    """With what words a pipeline is not submitted."""
    with pytest.raises(BrokerUnavailable) as raised:
        PipelineClient(settings).submit(spec)
    assert "start one with 'distill up'" not in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(settings)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--maxmemory 900kb", "its memory is full: give it more (maxmemory), or lower DISTILL_HISTORY_DAYS"),
        ("--replicaof 127.0.0.1_1", "it is a replica, which takes no writes: set DISTILL_BROKER_URL to its primary"),
        (
            "--min-replicas-to-write 1",
            "it takes no writes without its replicas: start them, or lower its min-replicas-to-write",
        ),
        (
            "--requirepass secret",
            "it asks for a password: set its user and password in DISTILL_BROKER_URL, as "
            "redis://USER:PASSWORD@HOST:6379/0",
        ),
    ],
)
def test_a_server_that_refuses_is_told_from_one_that_is_away(
    start: Callable[..., Server], make_spec: MakeSpec, options: str, words: str
) -> None:
    server = start(*(option.replace("_", " ") for option in options.split()))

    said = refused(server.settings(), make_spec())

    assert re.fullmatch(r"the broker( at redis\+socket:/\S+)? refuses: " + re.escape(words), said)


def test_a_replica_that_answers_no_questions_says_why(start: Callable[..., Server]) -> None:
    server = start("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")

    with pytest.raises(BrokerUnavailable) as raised:
        PipelineClient(server.settings()).find("tiny-00000000")

    assert str(raised.value) == (
        "the broker refuses: it is a replica that has lost its primary: set DISTILL_BROKER_URL to the primary"
    )


def test_a_wrong_password_is_told_from_none_and_not_repeated(start: Callable[..., Server], make_spec: MakeSpec) -> None:
    server = start("--requirepass", "secret")

    said = refused(server.settings(":guess@"), make_spec())

    assert "refuses: invalid username-password pair or user is disabled: set its user and password in" in said
    assert "guess" not in said


def test_a_server_that_cannot_write_its_snapshot_is_not_taken_for_none(
    start: Callable[..., Server], make_spec: MakeSpec, wait_until: WaitUntil
) -> None:
    server = start()
    server.client.config_set("save", "1 1")
    server.client.set("a", "b")
    shutil.rmtree(server.data)
    server.client.bgsave()
    wait_until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot fails")

    said = refused(server.settings(), make_spec())

    assert (
        "refuses: it takes no writes, as it cannot write its snapshot: make room on the broker's own disk, or" in said
    )
    assert "with 'CONFIG SET stop-writes-on-bgsave-error no' it goes on, and a restart may forget all" in said


def test_a_server_that_still_loads_its_data_is_to_be_tried_again(
    start: Callable[..., Server], make_spec: MakeSpec
) -> None:
    server = start()
    server.client.mset({f"key {number}": "x" * 100 for number in range(5_000)})
    server.client.save()
    server.end()
    server = start("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")

    said = refused(server.settings(), make_spec())

    assert said.endswith(" refuses: it was started and still loads its data: try again when it has")


def test_a_server_with_too_many_clients_says_so(start: Callable[..., Server], make_spec: MakeSpec) -> None:
    server = start("--maxclients", "1")
    server.client.ping()  # The connection stays.

    said = refused(server.settings(), make_spec())

    # It closes the connection in the same moment: its reason may be lost.
    assert "max number of clients reached: end some workers and clients, or raise its maxclients" in said or (
        said.endswith("use rediss:// if it is encrypted; else see whether its maxclients is reached")
    )


@pytest.mark.parametrize("missing", ["ping", "hset", "lpush"])
def test_a_right_that_is_missing_is_named_whoever_asks(
    start: Callable[..., Server], make_spec: MakeSpec, missing: str
) -> None:
    server = start()
    server.client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{missing}"])

    said = refused(server.settings(), make_spec())

    assert f"refuses: User default has no permissions to run the '{missing}' command: give this user the rights" in said


def test_the_doctor_goes_on_past_what_this_user_may_not_ask(start: Callable[..., Server]) -> None:
    server = start()
    server.client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info", "-time"])

    found = findings(server.settings())

    advice = "give it the rights of a client, as in docs/security.md"
    for subject in ("server", "memory", "persistence"):
        assert found[subject] == Finding(subject, "warning", "not known: this user may not ask INFO", advice)
    assert found["clock"] == Finding("clock", "warning", "not known: this user may not ask TIME", advice)
    assert found["broker"].state == "good"
    assert found["workers"].detail == "no worker is there: submitted pipelines wait"


def test_the_doctor_goes_on_past_a_key_that_is_not_what_it_should_be(start: Callable[..., Server]) -> None:
    server = start()
    server.client.set("distill:workers", "no set")
    server.client.lpush("distill:refused", "{}")

    found = findings(server.settings())

    assert found["workers"].state == "bad"
    assert found["workers"].detail.startswith(
        "not known: 'distill:workers' at the broker holds a value of another type"
    )
    assert found["clock"].state == "good"
    assert found["records"].state == "warning"
    assert "the last entry of distill:refused was written by another version" in found["records"].detail


def test_the_doctor_sees_a_replica_and_a_full_server(start: Callable[..., Server]) -> None:
    server = start("--maxmemory", "900kb", "--replicaof", "127.0.0.1 1")

    found = findings(server.settings())

    assert found["server"].state == "bad"
    assert found["server"].detail.endswith(", a replica")
    assert found["memory"] == Finding(
        "memory", "bad", "all of its 0.9 MB are full", "give it more (maxmemory), or lower DISTILL_HISTORY_DAYS"
    )
