"""Compose: the whole stack in real containers: built, scaled, hurt, restarted, taken down, and what it took.

`make test-compose` runs it. Where the base images cannot be pulled, it makes them of Debian's packages, with this
machine's certificates and pip configuration, under names of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table

from tests.acceptance.conftest import free_port

ROOT = Path(__file__).parents[1]
PROJECT = "distill-compose-test"
#: The tag of the images that are built, and the prefix of the base images that are made.
TAG = "compose-test"
INSTALL = "apt-get install docker.io docker-compose debootstrap, then start dockerd"
#: What all stages of the Dockerfile bear.
LABEL = "label=org.opencontainers.image.title=distill-queue"
#: The release of Debian whose Python is 3.11.
RELEASE = "bookworm"
#: Seconds within which each awaited change must come about.
DEADLINE_SECONDS = 600.0
#: The client's image, with the system that it stands on.
CLIENT_LIMIT_MB = 200
#: Seconds of a worker that was told to end, of the 30 that Docker gives it.
HAND_BACK_SECONDS = 25.0
#: A teacher that is still trained when all has been done to its workers.
LONG = "teacher.training.epochs=250"

console = Console(width=110, highlight=False)


class Failed(Exception):
    """A step that did not come about; the message says which."""


def docker(*arguments: str, quiet: bool = False) -> str:
    """Run docker, and return what it prints."""
    return _run(["docker", *arguments], quiet=quiet)


def _run(command: list[str], *, environment: dict[str, str] | None = None, quiet: bool = False) -> str:
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise Failed(f"no command {command[0]}: {INSTALL}") from None
    if done.returncode and not quiet:
        raise Failed(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout.strip() if not done.returncode else ""


def find_compose(wanted: str | None) -> list[str]:
    """The command of Compose: the one that is wanted, or what is installed here, v2 before v1."""
    if not docker("info", "--format", "{{.ID}}", quiet=True):
        raise Failed(f"no Docker engine answers: {INSTALL}")
    for command in [wanted.split()] if wanted else [["docker", "compose"], ["docker-compose"]]:
        if shutil.which(command[0]) and _run([*command, "version"], quiet=True):
            return command
    raise Failed(f"no Docker Compose: {INSTALL}")


@dataclass(slots=True)
class BaseImages:
    """The images that the stack stands on: pulled, or made of Debian's packages."""

    python: str = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    redis: str = os.environ.get("REDIS_IMAGE", "redis:7")
    #: Those that were made here, by this run or one before.
    made: list[str] = field(default_factory=list)

    def provide(self) -> None:
        """See to it that both are there."""
        if not (_there(self.python) and _there(self.redis)):
            self.python, self.redis = self.made = [f"{PROJECT}/python", f"{PROJECT}/redis"]
            if not _there(self.python):
                self._make_python()
            if not _there(self.redis):
                self._make_redis()

    def _make_python(self) -> None:
        if shutil.which("debootstrap") is None or os.geteuid():
            raise Failed(f"no registry is reached, and base images are made as root with debootstrap: {INSTALL}")
        with tempfile.TemporaryDirectory(prefix=f"{PROJECT}-") as folder:
            root = Path(folder) / "root"
            packages = "ca-certificates,python3,python3-venv"
            _run(["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(root)])
            for name in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(root / name)
            for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"):
                if Path(path).exists():
                    shutil.copyfile(path, root / path.removeprefix("/"))
            archive = Path(folder) / "root.tar"
            _run(["tar", "-C", str(root), "-cf", str(archive), "."])
            path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            docker("import", "--change", path, str(archive), self.python)

    def _make_redis(self) -> None:
        recipe = (
            f"FROM {self.python}\n"
            "RUN apt-get update && apt-get install -y --no-install-recommends redis-server"
            " && mkdir /data && chown redis /data\n"
            "WORKDIR /data\nUSER redis\n"
        )
        with tempfile.TemporaryDirectory(prefix=f"{PROJECT}-") as folder:
            (Path(folder) / "Dockerfile").write_text(recipe)
            docker("build", "-t", self.redis, folder)


def _there(image: str) -> bool:
    return bool(docker("image", "inspect", "-f", "{{.Id}}", image, quiet=True)) or bool(
        docker("pull", "--quiet", image, quiet=True)
    )


@dataclass(slots=True)
class Stack:
    """The stack under test, as its user has it: commands of Compose and of `distill` in a container."""

    compose_command: list[str]
    images: BaseImages
    port: int = field(default_factory=free_port)
    user: str = "flower"
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    broker_password: str = field(default_factory=lambda: secrets.token_hex(12))

    def compose(self, *arguments: str, quiet: bool = False) -> str:
        """Run Compose on the project of this test."""
        environment = {
            "PYTHON_IMAGE": self.images.python,
            "REDIS_IMAGE": self.images.redis,
            "DISTILL_TAG": TAG,
            "DISTILL_THREADS": "1",
            "REDIS_PASSWORD": self.broker_password,
            "FLOWER_USER": self.user,
            "FLOWER_PASSWORD": self.password,
            "FLOWER_PORT": str(self.port),
        }
        return _run([*self.compose_command, "-p", PROJECT, *arguments], environment=environment, quiet=quiet)

    def distill(self, *arguments: str) -> str:
        """Run the command in a container of its own."""
        return self.compose("run", "--rm", "-T", "scheduler", *arguments)

    def start(self, workers: int) -> None:
        """Start everything, with this many workers."""
        self.compose("up", "-d", "--scale", f"worker-cpu={workers}")
        check(len(self.containers("worker-cpu")) == workers, f"{workers} workers run")

    def await_health(self, workers: int) -> None:
        """Wait until everything says that it is healthy, and this many workers."""
        expected = {"redis": 1, "flower": 1, "worker-cpu": workers}
        wait_until(lambda: {name: self.healthy(name) for name in expected} == expected, f"healthy: {expected}")

    def remove(self) -> None:
        """Remove its containers and volumes."""
        self.compose("--profile", "cli", "down", "--volumes", quiet=True)

    def containers(self, service: str = "") -> list[str]:
        """The ids of the running containers, of one service or of all."""
        filters = [f"label=com.docker.compose.project={PROJECT}"]
        filters += [f"label=com.docker.compose.service={service}"] if service else []
        return docker("ps", "-q", *(part for name in filters for part in ("--filter", name))).split()

    def healthy(self, service: str) -> int:
        """How many containers of a service say that they are healthy."""
        health = (docker("inspect", "-f", "{{.State.Health.Status}}", name) for name in self.containers(service))
        return sum(state == "healthy" for state in health)

    def submit(self, *changes: str) -> str:
        """Submit the quick start's pipeline, and return its id."""
        options = [part for change in changes for part in ("--set", change)]
        return self.distill("submit", "examples/quickstart.yaml", *options)

    def status(self, pipeline: str) -> dict[str, Any]:
        """What `distill status --json` prints; nothing while the broker is away."""
        text = self.compose("run", "--rm", "-T", "scheduler", "status", "--json", pipeline, quiet=True)
        return json.loads(text) if text else {"state": "unknown", "stages": []}

    def works_on(self, pipeline: str, kind: str) -> str:
        """The container whose worker does a stage of a kind now, or nothing."""
        stages = (stage for stage in self.status(pipeline)["stages"] if stage["kind"] == kind)
        return next((s["worker"].partition("@")[2] for s in stages if s["state"] == "running"), "")

    def flower(self, path: str, password: str = "") -> tuple[int, str]:
        """The status and the text of one of Flower's pages; 0 while it does not answer."""
        request = Request(f"http://127.0.0.1:{self.port}{path}")
        if password:
            token = b64encode(f"{self.user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""
        except (URLError, ConnectionError):
            return 0, ""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until a condition holds, and return what it gave."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise Failed(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


def check(holds: bool, what: str) -> None:
    """Fail unless something holds."""
    if not holds:
        raise Failed(f"not so: {what}")


@dataclass(slots=True)
class Scenario:
    """The steps, in order, and what was measured in them."""

    stack: Stack
    measured: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Do all of it."""
        self.stack.remove()  # What a run that was killed may have left.
        with self._step("build"):
            self.stack.compose("--profile", "cli", "build")
        self._look_at_images()
        with self._step("up with 3 workers, all healthy"):
            self.stack.start(3)
            self.stack.await_health(3)
        self._look_at_users()
        self._look_at_flower(3)
        pipeline = self._kill_a_worker()
        with self._step("up with 5 workers"):
            self.stack.start(5)
        self._restart_redis(pipeline)
        with self._step("all 5 healthy"):
            self.stack.await_health(5)
        self._look_at_flower(5)
        self._end_a_worker()
        self._take_down_and_up(pipeline)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Say what is done, and measure how long it takes."""
        console.print(f"· {name} …")
        began = time.monotonic()
        yield
        self.measured[name] = f"{time.monotonic() - began:.0f} s"

    def _look_at_images(self) -> None:
        built = {name: f"distill-queue-{name}:{TAG}" for name in ("client", "monitor", "worker")}
        sizes = {name: _megabytes(image) for name, image in {"python": self.stack.images.python, **built}.items()}
        self.measured |= {f"image {name}": f"{size:,.0f} MB" for name, size in sizes.items()}
        check(
            sizes["client"] < CLIENT_LIMIT_MB,
            f"the client's image is below {CLIENT_LIMIT_MB} MB: {sizes['client']:.0f}",
        )
        script = "import importlib.util; print(importlib.util.find_spec('torch'))"
        seen = self.stack.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "scheduler", "-c", script)
        check(seen == "None", "the client's image has no torch")

    def _look_at_users(self) -> None:
        for container in self.stack.containers():
            users = {line.split()[0] for line in docker("top", container, "-eo", "uid,pid").splitlines()[1:]}
            name = docker("inspect", "-f", "{{.Name}}", container)
            check("0" not in users, f"nothing runs as root in {name}: {users}")

    def _look_at_flower(self, workers: int) -> None:
        stack = self.stack
        check(stack.flower("/")[0] == 401, "Flower refuses without a password")
        check(stack.flower("/", "wrong")[0] == 401, "Flower refuses a wrong password")
        seen = wait_until(lambda: _workers_online(stack) == workers, f"Flower shows {workers} workers online")
        check(seen, "Flower answers with the password")

    def _kill_a_worker(self) -> str:
        stack = self.stack
        pipeline = stack.submit(LONG)
        killed = wait_until(lambda: stack.works_on(pipeline, "train_teacher"), "a worker trains the teacher")
        with self._step("from a worker's kill -9 to its stage going on elsewhere"):
            docker("kill", killed)
            other = wait_until(
                lambda: _another(stack.works_on(pipeline, "train_teacher"), killed), "it goes on elsewhere"
            )
        check(other in {name[:12] for name in stack.containers("worker-cpu")}, "the other worker is one of the stack")
        return pipeline

    def _restart_redis(self, pipeline: str) -> None:
        stack = self.stack
        check(bool(stack.works_on(pipeline, "train_teacher")), "the teacher is still trained when Redis restarts")
        stack.compose("restart", "redis")
        with self._step("from Redis' restart to the pipeline's end"):
            wait_until(lambda: stack.status(pipeline)["state"] == "done", "the pipeline is done")

    def _end_a_worker(self) -> None:
        stack = self.stack
        pipeline = stack.submit(LONG, "teacher.training.seed=1")
        ended = wait_until(lambda: stack.works_on(pipeline, "train_teacher"), "a worker trains the teacher")
        began = time.monotonic()
        docker("stop", "-t", "30", ended)
        took = time.monotonic() - began
        self.measured["a worker that is told to end"] = f"{took:.0f} s"
        check(took < HAND_BACK_SECONDS, f"a worker hands back in time: {took:.0f} s")
        code = docker("inspect", "-f", "{{.State.ExitCode}}", ended)
        check(code == "0", f"it ends with 0, not {code}")
        with self._step("from its end to its stage going on elsewhere"):
            wait_until(lambda: _another(stack.works_on(pipeline, "train_teacher"), ended), "it goes on elsewhere")
        stack.distill("cancel", pipeline)

    def _take_down_and_up(self, pipeline: str) -> None:
        stack = self.stack
        with self._step("down"):
            stack.compose("down")
        check(not stack.containers(), "down leaves no container")
        check(f"{PROJECT}_store" in docker("volume", "ls", "-q").split(), "down keeps the store")
        copy = ("-c", "tar -C /store -cz . | tar -tz")
        names = stack.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "scheduler", *copy)
        check("manifest.json" in names, "the client's image makes copies of the store")
        with self._step("up again"):
            stack.start(1)
        check(stack.status(pipeline)["state"] == "done", "down keeps what Redis knows of a pipeline")
        again = stack.submit(LONG)
        with self._step("the same pipeline again"):
            wait_until(lambda: stack.status(again)["state"] == "done", "the pipeline is done again")
        outcomes = {stage["outcome"] for stage in stack.status(again)["stages"] if stage["kind"] != "report"}
        check(outcomes == {"found"}, f"every stage is found in the kept store: {outcomes}")


def _megabytes(image: str) -> float:
    return int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6


def _another(container: str, than: str) -> str:
    return container if container != than else ""


def _workers_online(stack: Stack) -> int:
    status, text = stack.flower("/workers?json=1", stack.password)
    return sum(worker["status"] for worker in json.loads(text)["data"]) if status == 200 else 0


def remove_images(images: BaseImages) -> None:
    """Remove what was built and made, and nothing else."""
    built = [f"distill-queue-{name}:{TAG}" for name in ("client", "monitor", "worker")]
    docker("rmi", *built, *reversed(images.made), quiet=True)
    docker("image", "prune", "--force", "--filter", LABEL, quiet=True)


def main() -> None:
    """Run the scenario from the command line; exit code 1 where something did not come about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compose", help="the command of Compose, as docker-compose or 'docker compose'")
    parser.add_argument("--keep-images", action="store_true", help="leave the images for the next run")
    arguments = parser.parse_args()
    try:
        stack = Stack(find_compose(arguments.compose), BaseImages())
        console.print(f"With {' '.join(stack.compose_command)} {stack.compose('version', '--short')}")
        try:
            show(run(stack))
        finally:
            stack.remove()
            if not arguments.keep_images:
                remove_images(stack.images)
    except Failed as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def run(stack: Stack) -> dict[str, str]:
    """Run the scenario, and return what was measured; say what the containers said where it fails."""
    scenario = Scenario(stack)
    try:
        stack.images.provide()
        scenario.run()
    except Failed:
        console.print(stack.compose("logs", "--no-color", "--tail", "40", quiet=True), markup=False)
        raise
    return scenario.measured


def show(measured: dict[str, str]) -> None:
    """Print the table."""
    table = Table(title="Compose: everything came about")
    table.add_column("step or image")
    table.add_column("measured", justify="right")
    for name, value in measured.items():
        table.add_row(name, value)
    console.print(table)


if __name__ == "__main__":
    main()
