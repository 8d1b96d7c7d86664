"""Workers of a card: the queues that they serve, and what `--devices cuda:0` starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.devices import devices, has_gpu
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.errors import Unavailable
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime

pytestmark = pytest.mark.gpu

#: The command, also where the package is not installed.
DISTILL = [sys.executable, "-c", "from distill_queue.scheduler.cli.main import main; main()"]
#: A package of the user's own, for workers that are processes.
DATA = """
import numpy as np

def data(**_):
    numbers = np.random.default_rng(0)
    inputs, targets = numbers.integers(0, 256, (400, 1, 6, 6), dtype=np.uint8), np.arange(400) % 4
    return {"train": (inputs[:300], targets[:300]), "test": (inputs[300:], targets[300:])}
"""


@contextmanager
def command(stack: LocalStack, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`distill worker` with some options, for a server."""
    environment = os.environ | stack.settings.environment
    process = subprocess.Popen(
        [*DISTILL, "worker", *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    """A server without workers; those of it find a package of the user's own."""
    (tmp_path / "theirs.py").write_text(DATA)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with LocalStack(Settings(store=str(tmp_path / "store"), plugins=("theirs",)), workers=0, idle=True) as stack:
        yield stack


def pipeline(device: str) -> PipelineSpec:
    """A pipeline of a second for a device."""
    training = {"epochs": 2, "batch_size": 32}
    return PipelineSpec.model_validate(
        {
            "name": f"for-{device}",
            "device": device,
            "dataset": {"name": "theirs:data"},
            "teacher": {"model": {"name": "mlp", "hidden": [16]}, "training": training},
            "students": [{"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": training}],
        }
    )


def test_a_stage_runs_on_the_card_unless_it_asked_for_the_cpu(card: torch.device) -> None:
    settings = Settings()

    assert [Runtime.probe(settings, queue).device.type for queue in ("gpu", "any", "cpu")] == ["cuda", "cuda", "cpu"]
    assert Runtime.probe(settings, "gpu").device_name == torch.cuda.get_device_name(card)


def test_a_stage_that_asks_for_a_gpu_where_torch_finds_none_says_so(device: torch.device) -> None:
    look = (
        "from distill_queue.worker.machine.runtime import Runtime\nfrom distill_queue.shared.settings import Settings\n"
    )
    script = f"{look}Runtime.probe(Settings(), 'gpu')"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)

    assert f"{Unavailable.__name__}: this worker serves the queue 'gpu', yet torch finds no GPU here" in done.stderr


def test_this_machines_card_is_a_device_by_its_number(card: torch.device) -> None:
    assert has_gpu()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]

    (device,) = devices(f"cuda:{first}")

    assert device.queues == ("gpu", "any")
    assert device.environment["CUDA_VISIBLE_DEVICES"] == first


@pytest.mark.usefixtures("card")
def test_the_worker_of_cuda_0_does_what_is_for_a_gpu_and_what_is_for_any_device(
    server: LocalStack, wait_until: Callable[..., Any]
) -> None:
    client = PipelineClient(server.settings)
    with command(server, "--devices", "cuda:0", "--name", "here"):
        wait_until(client.workers, "the worker is there")
        (worker,) = client.workers()
        ids = [client.submit(pipeline(device)).id for device in ("gpu", "any")]
        ended = [list(client.watch(each))[-1] for each in ids]

    assert worker.name.startswith("here-cuda-0@")
    assert set(worker.queues) == {"gpu", "any"}
    for status in ended:
        assert status.state == "done"
        for stage in (status.plan.trunk[1], status.plan.branches[0][0][0]):
            manifest = FolderStore(server.settings.folder).open(stage.ref).manifest
            assert manifest.provenance.device == torch.cuda.get_device_name()
