"""A rolling upgrade: this version's client and workers beside an earlier commit's, on one broker and one store.

`python -m tests.upgrade --commit 8ebca0b` takes that commit's tree out of git, has each version's worker do what the
other one's client submits, and prints a table of what worked. What an earlier version cannot do, and cannot be taught
any more, is listed as known, with its reason.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import yaml
from rich.console import Console
from rich.table import Table

from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.broker_address import BrokerAddress
from distill_queue.shared.settings import Settings
from tests.golden import command_of

ROOT = Path(__file__).parents[1]
#: The commit before the last release.
DEFAULT_COMMIT = "8ebca0b"
#: Seconds within which a pipeline is done, and after which an unrenewed message is given to another worker.
DEADLINE_SECONDS = 180.0
VISIBILITY_SECONDS = 3.0
#: What is looked at: a pipeline and its results, cancelling, a worker's death, a broker's loss, signed messages.
PARTS = ("submitted", "stopped", "killed", "lost", "signed")
#: Why an earlier version's worker does not do what this version's client submits.
FORMAT = "its workers leave stages of a newer format to newer workers"
SIGNING_KEY = "an upgrade has one signing key"


def spec_of(seed: int, *, epochs: int = 2) -> dict[str, Any]:
    """A small pipeline on digits, which has an artifact of its own for each stage of a seed."""
    return {
        "name": "upgrade",
        "dataset": {"name": "digits"},
        "teacher": {"model": {"name": "mlp", "hidden": [16]}, "training": {"epochs": epochs, "seed": seed}},
        "students": [
            {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 2, "seed": seed}}
        ],
    }


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the code, and how it reaches the broker and the store."""

    name: str
    tree: Path
    environment: dict[str, str]
    folder: Path

    def distill(self, *arguments: str) -> str:
        """What its `distill` command prints.

        Raises:
            AssertionError: it ended with another code than 0.

        """
        done = subprocess.run(
            [*command_of(self.tree), *arguments],
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[Child]:
        """A worker of it, while the block runs."""
        module = "distill_queue.worker" if (self.tree / "distill_queue").is_dir() else "worker"
        command = [sys.executable, "-P", "-m", module, "worker", "-Q", "cpu,any", "-n", f"{self.name}@%h"]
        log = self.folder / f"{self.name}-{time.monotonic_ns()}.log"
        child = Child(self.name, [*command, "-l", "INFO", "--without-gossip"], self._environment, log)
        child.start()
        try:
            yield child
        finally:
            child.ask_to_end()
            child.end(time.monotonic() + 20.0)

    def submit(self, spec: dict[str, Any]) -> str:
        """The id of a pipeline that it has submitted."""
        path = self.folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec))
        return self.distill("submit", str(path)).strip()

    def facts(self, pipeline: str) -> dict[str, Any]:
        """Where a pipeline stands, as it sees it."""
        facts: dict[str, Any] = json.loads(self.distill("status", pipeline, "--json"))
        return facts

    def wait(self, pipeline: str) -> dict[str, Any]:
        """Where a pipeline stands once it is done, as it sees it."""
        return until(lambda: (facts := self.facts(pipeline))["state"] == "done" and facts, f"{pipeline} is done")

    @property
    def _environment(self) -> dict[str, str]:
        return self.environment | {"PYTHONPATH": str(self.tree)}


@dataclass(slots=True)
class Upgrade:
    """What was looked at, and what came of it in each direction."""

    store: Path
    #: By what was looked at and 'client → worker': a mark, and what there is to say.
    found: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    directions: list[str] = field(default_factory=list)
    #: What the earlier version cannot do: a pattern of 'client → worker: check', and why.
    known: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def check(self, what: str, client: Version, worker: Version) -> Iterator[None]:
        """Note whether the block comes to its end."""
        direction = f"{client.name} client → {worker.name} worker"
        if direction not in self.directions:
            self.directions.append(direction)
        row = self.found.setdefault(what, {})
        try:
            yield
        except (AssertionError, subprocess.TimeoutExpired, ValueError, LookupError) as error:
            why = self.why_not(f"{direction}: {what}")
            row[direction] = ("known", why) if why else ("failed", str(error) or type(error).__name__)
        else:
            row[direction] = ("works", "")
        mark, words = row[direction]
        sys.stderr.write(f"{direction}: {what}: {mark} {words}\n")

    def why_not(self, what: str) -> str:
        """Why the earlier version cannot do something; empty where it should."""
        return next((why for pattern, why in self.known.items() if re.search(pattern, what)), "")

    @property
    def failed(self) -> bool:
        """Whether anything did not work that is not known."""
        return any(mark == "failed" for row in self.found.values() for mark, _ in row.values())

    def submitted(self, client: Version, worker: Version, seed: int) -> None:
        """Have one version's worker do what the other one's client submits, and each look at it."""
        with worker.worker():
            with self.check("a pipeline is done", client, worker):
                pipeline = client.submit(spec_of(seed))
                client.wait(pipeline)
            for reader in (client, worker):
                self._read(reader, client, worker, pipeline)
            with self.check("a pipeline is submitted again by the other's retry", client, worker):
                again = worker.distill("retry", pipeline).strip()
                assert {stage["outcome"] for stage in client.wait(again)["stages"]} == {"found"}
        with client.worker(), self.check("what the other has made is found", client, worker):
            assert client.tree == ROOT or FORMAT not in self.known.values(), FORMAT
            before = self._made()
            found = worker.wait(worker.submit(spec_of(seed)))
            assert {stage["outcome"] for stage in found["stages"]} == {"found"}
            assert self._made() == before, "artifacts were made again"

    def left(self, client: Version, worker: Version, seed: int) -> None:
        """Have a worker leave what it does not know to one of the client's version."""
        with self.check("stages of a newer format are left to newer workers", client, worker), worker.worker():
            pipeline = client.submit(spec_of(seed))
            until(lambda: "update it" in str(client.facts(pipeline)), "the worker says that it is too old")
            with client.worker():
                client.wait(pipeline)

    def stopped(self, client: Version, worker: Version, seed: int) -> None:
        """Have each version cancel what the other one has; what waits, and what is at work."""
        with self.check("what waits is cancelled", client, worker):
            waiting = client.submit(spec_of(seed))
            worker.distill("cancel", waiting)
            assert client.facts(waiting)["state"] == "cancelled"
        with worker.worker() as child, self.check("what runs is cancelled", client, worker):
            running = client.submit(spec_of(seed, epochs=20_000))
            until(lambda: _at_work(client.facts(running)), "the teacher is trained")
            client.distill("cancel", running)
            until(lambda: "revoked" in _log(child) or "cancelled" in _log(child), "the worker stops")
            assert worker.facts(running)["state"] == "cancelled"

    def killed(self, client: Version, worker: Version, seed: int) -> None:
        """Have a worker killed, and one of the client's version go on from its checkpoint."""
        with self.check("a killed worker's stage goes on from its checkpoint at the other", client, worker):
            with worker.worker() as child:
                pipeline = client.submit(spec_of(seed, epochs=1_500))
                teacher = next(stage for stage in client.facts(pipeline)["stages"] if stage["kind"] == "train_teacher")
                partial = self.store / "partial" / teacher["key"]
                until(lambda: list(partial.glob("[0-9]*-*.safetensors")), "there is a checkpoint")
                child.end(0.0)
            assert client.facts(pipeline)["state"] == "running", "it was over too soon"
            with client.worker() as successor:
                client.wait(pipeline)
                assert "goes on from step" in _log(successor), "it began anew"
            worker.distill("results", pipeline)

    def lost(self, client: Version, worker: Version, seed: int, address: BrokerAddress) -> None:
        """Have a pipeline sent again by the other version after the broker has lost everything."""
        with self.check("what the broker has lost is sent again by the other's recover", client, worker):
            pipeline = client.submit(spec_of(seed))
            with redis.Redis(**address.redis_options) as broker:
                broker.flushall()
            assert pipeline in worker.distill("recover")
            with worker.worker():
                client.wait(pipeline)

    def signed(self, client: Version, worker: Version, seed: int) -> None:
        """Have a signed pipeline done."""
        with worker.worker(), self.check("a signed pipeline is done", client, worker):
            client.wait(client.submit(spec_of(seed)))
            assert "refused" not in worker.distill("doctor")

    def _read(self, reader: Version, client: Version, worker: Version, pipeline: str) -> None:
        """Look at a finished pipeline, its worker and the store with all that a client has."""
        whose = "the client's" if reader is client else "the other's"
        looks: dict[str, Callable[[], bool]] = {
            "status": lambda: pipeline in reader.distill("status"),
            "status ID": lambda: "done" in reader.distill("status", pipeline),
            "watch": lambda: "small" in reader.distill("watch", pipeline),
            "results": lambda: "small" in reader.distill("results", pipeline),
            "compare --json": lambda: len(json.loads(reader.distill("compare", pipeline, "--json"))) == 1,
            "report": lambda: "report" in reader.distill("report", pipeline),
            "workers": lambda: f"{worker.name}@" in reader.distill("workers"),
            "queues": lambda: f"{worker.name}@" in reader.distill("queues"),
            "logs": lambda: "begins on" in reader.distill("logs", pipeline),
            "doctor": lambda: f"{worker.name}@" in reader.distill("doctor"),
            "store ls": lambda: "train teacher" in reader.distill("store", "ls"),
            "store verify": lambda: "damaged" not in reader.distill("store", "verify").replace("0 damaged", ""),
            "store gc --dry-run": lambda: bool(reader.distill("store", "gc", "--dry-run")),
        }
        for what, look in looks.items():
            with self.check(f"{what} ({whose})", client, worker):
                assert look(), "it does not have what is there"

    def _made(self) -> dict[str, float]:
        """When each artifact was made."""
        manifests = self.store.glob("artifacts/*/*/*/manifest.json")
        return {path.parent.name: json.loads(path.read_text())["created"] for path in manifests}


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until a condition holds, and return what it gave."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


def run(commit: str, folder: Path, parts: tuple[str, ...] = PARTS) -> Upgrade:
    """Go through parts of it, in both directions."""
    tree, store = folder / "earlier", folder / "store"
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
    upgrade = Upgrade(store)
    lags = _format_of(tree) < _format_of(ROOT)
    if lags:
        upgrade.known["^earlier client → this worker: what the other has made is found"] = FORMAT
    if not list((tree / "scheduler").rglob("queues.py")):
        whose = r"^earlier client.*: queues \(the client's\)|^this client.*: queues \(the other's\)"
        upgrade.known[whose] = "it has no such command"
    with LocalStack(Settings(store=folder / "server"), workers=0) as stack:
        common = {
            "DISTILL_BROKER_URL": stack.settings.broker_url,
            "DISTILL_STORE": str(store),
            "DISTILL_THREADS": "1",
            "DISTILL_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
            "DISTILL_CHECKPOINT_SECONDS": "0.2",
            "COLUMNS": "300",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for seed, key in ((0, ""), (100, SIGNING_KEY)):
            environment = common | ({"DISTILL_SIGNING_KEY": key} if key else {})
            earlier, this = Version("earlier", tree, environment, folder), Version("this", ROOT, environment, folder)
            for number, (client, worker) in enumerate(((earlier, this), (this, earlier))):
                first = seed + 10 * number
                if lags and worker is earlier:
                    if not key:
                        upgrade.left(client, worker, first)
                    continue
                if key and "signed" in parts:
                    upgrade.signed(client, worker, first)
                if key:
                    continue
                if "submitted" in parts:
                    upgrade.submitted(client, worker, first)
                if "stopped" in parts:
                    upgrade.stopped(client, worker, first + 1)
                if "killed" in parts:
                    upgrade.killed(client, worker, first + 2)
                if "lost" in parts:
                    upgrade.lost(client, worker, first + 3, stack.settings.broker)
        for client, worker in ((earlier, this), (this, earlier)):
            with upgrade.check("nothing sound was taken for damaged", client, worker):
                assert not list(store.glob("damaged/*")), "there are artifacts in damaged/"
        stack.idle = True
    return upgrade


def main() -> None:
    """Run an upgrade from a commit, and print what worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default=DEFAULT_COMMIT, help="the earlier version, as git names it")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it; may be given again")
    given = parser.parse_args()
    commit = given.commit
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upgrade-") as folder:
        upgrade = run(commit, Path(folder), tuple(given.only or PARTS))
    table = Table(title=f"{commit} beside this version, {time.monotonic() - began:.0f} s")
    for name in ("", *upgrade.directions):
        table.add_column(name, overflow="fold")
    for what, row in upgrade.found.items():
        cells = (row.get(direction, ("", "")) for direction in upgrade.directions)
        table.add_row(what, *(f"{mark}: {words}" if words else mark for mark, words in cells))
    Console(width=160, markup=False, highlight=False).print(table)
    sys.exit(upgrade.failed)


def _format_of(tree: Path) -> int:
    """The format of a version's stages."""
    found = re.search(r"^STAGE_FORMAT = (\d+)$", next((tree / "shared").rglob("stage.py")).read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def _at_work(facts: dict[str, Any]) -> bool:
    return any(stage["kind"] == "train_teacher" and stage["state"] == "running" for stage in facts["stages"])


def _log(child: Child) -> str:
    return child.log.read_text() if child.log else ""


if __name__ == "__main__":
    main()
