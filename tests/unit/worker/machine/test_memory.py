"""Estimates against what a training really takes, and what is said where there is no room."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.memory import Need

MEASURE = """
    import sys
    from pathlib import Path
    import numpy as np, torch
    from pydantic import TypeAdapter
    from distill_queue.shared.spec.model import ModelSpec
    from distill_queue.shared.spec.training import AugmentationSpec, TrainingSpec
    from distill_queue.worker.machine import memory
    from distill_queue.worker import models
    from distill_queue.worker.data.batches import Batches, size_bytes
    from distill_queue.worker.training.checkpoints import Checkpoints
    from distill_queue.worker.data.arrays import Arrays
    from distill_queue.worker.data.split import Split
    from distill_queue.worker.training.objective import Goal
    from distill_queue.worker.machine.runtime import Runtime
    from distill_queue.worker.training.fit import Member, fit

    torch.set_num_threads(1)
    folder, cpu = Path(sys.argv[1]), torch.device("cpu")
    spec = TypeAdapter(ModelSpec).validate_json(sys.argv[2])
    samples, batch_size, count = map(int, sys.argv[3:])
    inputs = np.random.default_rng(0).integers(0, 256, (samples, 1, 28, 28), dtype=np.uint8)
    targets = np.zeros(samples, np.int64)
    record = Arrays(inputs, targets, inputs[:9], targets[:9], ("a", "b")).save(folder)
    del inputs
    built = [models.build(spec, record, Runtime(cpu), seed) for seed in range(count)]
    training = TrainingSpec(epochs=1, batch_size=batch_size)

    def split(streamed):
        return Split.open(folder, "train", record, cpu, streamed=streamed)

    def train(members, split, name, seconds):
        batches = Batches(split, AugmentationSpec(), None, torch.float32)
        checkpoints = Checkpoints(folder / name, seconds)
        fit([Member(model, training, Goal()) for model in members], batches, None, torch.float32, print, checkpoints)

    few = split(streamed=True)
    few = Split(few.inputs[:2], few.targets[:2], few.mean, few.std, 2)
    train([models.build(spec, record, Runtime(cpu))], few, "warm", 1e9)  # Loads what is loaded once.
    mapped = split(streamed=True)
    data = size_bytes(mapped, AugmentationSpec(), torch.float32)
    need = memory.of_training(built, training, mapped.normalised(slice(0, 1)), torch.float32, data)

    def kilobytes(name):
        return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

    Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to what is there now.
    before = kilobytes("VmRSS")
    train(built, split(streamed=False), "checkpoints", 1e-3)
    print(need.total, (kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.parametrize(
    ("model", "samples", "batch_size", "count"),
    [
        ('{"name": "mlp", "hidden": [2048, 1024]}', 4_000, 256, 1),
        ('{"name": "mlp", "hidden": [256]}', 20_000, 1_024, 6),
        ('{"name": "cnn", "width": 16}', 1_024, 512, 1),
        ('{"name": "resnet8"}', 512, 256, 1),
    ],
)
def test_an_estimate_is_near_the_peak(tmp_path: Path, model: str, samples: int, batch_size: int, count: int) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc/self/clear_refs")
    numbers = (str(number) for number in (samples, batch_size, count))
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), tmp_path, model, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    estimated, measured = map(int, done.stdout.splitlines()[-1].split())
    assert 0.5 < estimated / measured < 2.5, (estimated, measured)  # What convolutions take depends on the processor.


def need(data: int = 0, models: int = 0, sample: int = 0, batch_size: int = 1) -> Need:
    return Need(data=data, models=models, sample=sample, batch_size=batch_size)


def test_data_are_streamed_where_they_do_not_fit_and_the_rest_does() -> None:
    assert not need(data=80, models=10).streams(100)
    assert need(data=85, models=10).streams(100)


def test_a_stage_without_room_says_how_much_it_needs_and_what_fits() -> None:
    with pytest.raises(StageFailed, match=r"models take about 2\.00 GB and a batch of 64 64\.00 GB, of 9\.00 GB .*: a"):
        need(models=2 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)
    with pytest.raises(StageFailed, match="a batch_size of 7 fits"):
        need(models=2 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)
    with pytest.raises(StageFailed, match="take a smaller model"):
        need(models=20 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)


def test_stacked_models_and_kept_weights_are_counted() -> None:
    models = [nn.Linear(1_000, 1_000, bias=False) for _ in range(3)]
    inputs = torch.zeros(1, 1_000)
    alone = memory.of_training(models[:1], TrainingSpec(), inputs, torch.float32, 0)
    together = memory.of_training(models, TrainingSpec(), inputs, torch.float32, 0)
    best = memory.of_training(models[:1], TrainingSpec(keep="best"), inputs, torch.float32, 0)
    sgd = memory.of_training(models[:1], TrainingSpec(optimizer="sgd"), inputs, torch.float32, 0)
    assert (together.models, together.sample) == (3 * alone.models, 3 * alone.sample)
    assert sgd.models < alone.models < best.models


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError("Unable to allocate 3 GiB"),
    ],
)
def test_memory_that_runs_out_is_a_failure_with_the_numbers(error: Exception) -> None:
    explanation = need().explanation(10**9)
    with (
        pytest.raises(StageFailed, match=r"memory ran out \(.*\): the models take"),
        memory.running_out_fails(explanation),
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory.running_out_fails(""):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_inference_takes_the_largest_power_of_two_that_fits() -> None:
    model, inputs = nn.Sequential(nn.Linear(10, 1_000), nn.ReLU(), nn.Linear(1_000, 2)), torch.zeros(1, 10)
    sample = memory.FORWARD_COPIES * 1_000 * 4

    roomy, tight, tiny = (memory.of_inference(model, inputs, 0, free, 512) for free in (10**9, 50 * sample, 10))

    assert (roomy.batch_size, tight.batch_size, tiny.batch_size) == (512, 32, 1)
    with pytest.raises(StageFailed, match="take a smaller model"):
        tiny.streams(10)


class _Chunks(nn.Module):
    """A model that works on two samples at a time: on four it keeps another number of tensors than on two."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.layer(chunk.sigmoid()) for chunk in inputs.split(2)])


def test_an_estimate_takes_any_model() -> None:
    assert memory.of_training([_Chunks()], TrainingSpec(), torch.zeros(1, 10), torch.float32, 0).sample > 0


def test_a_control_group_limits_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 50000\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.free_bytes(torch.device("cpu")) == 650_000
