"""Stacks of real processes, and what tests do to them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

DISTILL = [str(Path(sys.executable).with_name("distill"))]
#: A package whose models and data end their worker, or take for ever.
MISBEHAVING = """
import ctypes, os, pathlib, signal, time
import numpy as np

def data(how, path="", **_):
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "slow":
        time.sleep(600)
    while how == "deaf":
        try:
            time.sleep(600)
        except Exception:
            pass
    if how == "hung" and not (begun := pathlib.Path(path).parent.with_name("begun")).exists():
        begun.touch()
        ctypes.PyDLL(None).access(path.encode(), 0)  # It holds the interpreter lock, as reading a mapped file does.
    inputs = np.zeros((8, 1, 4, 4), np.uint8)
    return {"train": (inputs, np.arange(8) % 2), "test": (inputs, np.arange(8) % 2)}

def slow_model(input_shape, classes, seconds):
    import math, torch
    class Slow(torch.nn.Sequential):
        def forward(self, inputs):
            if not self.training and len(inputs) > 100:
                time.sleep(seconds)
            return super().forward(inputs)
    return Slow(torch.nn.Flatten(), torch.nn.Linear(math.prod(input_shape), classes))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a store of its own."""
    return clean_environment(tmp_path / "store")


def clean_environment(store: Path) -> dict[str, str]:
    """An environment with a store and no other settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}
    return clean | {"DISTILL_STORE": str(store), "COLUMNS": "140"}


@pytest.fixture(scope="session")
def long_spec(make_spec: Callable[..., PipelineSpec]) -> PipelineSpec:
    """A pipeline whose teacher takes some seconds."""
    training = {"epochs": 80, "batch_size": 16}
    return make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, long_spec: PipelineSpec) -> bytes:
    """The weights of the long teacher, trained by this process without any disturbance."""
    store = FolderStore(tmp_path_factory.mktemp("undisturbed"))
    runner = StageRunner(store, Runtime(torch.device("cpu")), lambda *_: None)
    _, teacher = [runner.run(stage) for stage in Plan.of(long_spec).trunk[:2]]
    return teacher.path("model.safetensors").read_bytes()


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., LocalStack]]:
    """Start workers whose messages are given away three seconds after their last renewal, and kill them at the end."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stacks:
        (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
        patch.setenv("PYTHONPATH", str(tmp_path))

        def start(workers: int, **options: Any) -> LocalStack:
            quick = {"visibility_timeout_seconds": 3.0, "checkpoint_seconds": 0.2, "plugins": ("misbehaving",)}
            settings = Settings(store=tmp_path / "store", **quick | options.pop("settings", {}))
            return stacks.enter_context(LocalStack(settings, workers=workers, idle=True, **options))

        yield start


@pytest.fixture
def stack(start_stack: Callable[..., LocalStack], request: pytest.FixtureRequest) -> LocalStack:
    """Two such workers, or as many as `with_workers` says: each takes seconds to load torch."""
    return start_stack(workers=getattr(request, "param", 2))


def with_workers(number: int) -> pytest.MarkDecorator:
    """Give a test's stack so many workers."""
    return pytest.mark.parametrize("stack", [number], indirect=True, ids=[f"{number} workers"])


@pytest.fixture
def client(stack: LocalStack) -> PipelineClient:
    """A client of the stack."""
    return PipelineClient(stack.settings)


@pytest.fixture
def training_worker(wait_until: Callable[..., Any]) -> Callable[..., Child]:
    """The worker that trains the teacher of some pipelines, once it is past its first epoch."""

    def find(stack: LocalStack, client: PipelineClient, *pipelines: str) -> Child:
        def name() -> str:
            teachers = [status.states[status.plan.trunk[1].key] for status in map(client.status, pipelines)]
            far = (teacher for teacher in teachers if re.match(r"epoch (?!1/)", teacher.progress))
            return next((teacher.worker.partition("@")[0] for teacher in far), "")

        found = wait_until(name, "the teacher is trained")
        (worker,) = (child for child in stack.children if child.name == found)
        return worker

    return find


def distill(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*DISTILL, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def pool_process(worker: Child) -> psutil.Process:
    """The process that does a worker's stages."""
    (process,) = psutil.Process(worker.pid).children()
    return process


def teacher_weights(stack: LocalStack, client: PipelineClient, pipeline: str) -> bytes:
    """The bytes of a finished pipeline's teacher."""
    teacher = client.status(pipeline).plan.trunk[1]
    return FolderStore(stack.settings.folder).open(teacher.ref).path("model.safetensors").read_bytes()


def lines_of(stack: LocalStack, *words: str) -> list[str]:
    """The lines in the workers' logs that have all of some words."""
    logs = [child.log.read_text() for child in stack.children if child.name.startswith("worker")]
    return [line for log in logs for line in log.splitlines() if all(word in line for word in words)]


def free_port() -> int:
    """A port of the loopback address that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
