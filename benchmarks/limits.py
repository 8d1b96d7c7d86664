"""Each phase of a pipeline against the machine's limit: its own matrix products or convolutions, and nothing else."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.data import load as data
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.split import Split
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.evaluation import quality
from distill_queue.worker.machine import memory, recorded_step
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal

ROUNDS = 3
#: Repetitions of one product, of which the median counts.
REPETITIONS = 15


@dataclass(frozen=True, slots=True)
class Phase:
    """What is timed: trainings side by side, or a forward pass over all samples."""

    name: str
    model: ModelSpec
    batch_size: int
    samples: int
    goal: Goal | None
    #: Share of the limit that is wanted; none is set for what the products are no measure of.
    wanted: float | None = None
    stacked: int = 1
    streamed: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


KD = Goal(DistillationSpec(temperature=2.0, alpha=0.5))
TEACHER, STUDENT = MlpSpec(hidden=(512, 256)), MlpSpec(hidden=(128,))
PHASES = (
    Phase("train MLP 512-256", TEACHER, 256, 60_000, Goal(), 0.6),
    Phase("distil MLP 128", STUDENT, 256, 60_000, KD, 0.6),
    Phase("distil MLP 128, streamed", STUDENT, 256, 60_000, KD, streamed=True),
    Phase("distil MLP 128, batch 64", STUDENT, 64, 30_000, KD),
    Phase("distil 16 MLPs 128 stacked, batch 64", STUDENT, 64, 15_000, KD, stacked=16),
    Phase("train MLP 512-256, batch 4,096", TEACHER, 4_096, 60_000, Goal()),
    Phase("train CNN 32-64-128", CnnSpec(), 256, 5_120, Goal(), 0.5),
    Phase("train CNN 32-64-128, streamed", CnnSpec(), 256, 5_120, Goal(), streamed=True),
    Phase("distil resnet8", ResnetSpec(name="resnet8"), 128, 5_120, KD, 0.5),
    Phase("soft labels of MLP 512-256", TEACHER, quality.BATCH, 60_000, None),
    Phase("soft labels of CNN 32-64-128", CnnSpec(), quality.BATCH, 10_240, None),
)


def main() -> None:
    """Time all phases in turn, and print the medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="say of each phase where its time goes")
    asked = parser.parse_args()
    runtime = Runtime(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        record = data.load(NamedDatasetSpec(name="fashion_mnist"), Reading(runtime)).save(folder)
        rounds = [[_measured(phase, folder, record, runtime) for phase in PHASES] for _ in range(ROUNDS)]
        profiles = [(phase.name, _profile(phase, folder, record, runtime)) for phase in PHASES if asked.profile]
    cores = f"{torch.get_num_threads()} threads" if runtime.device.type == "cpu" else ""
    device = f"{runtime.provenance.device} {cores}, {str(runtime.dtype('auto')).removeprefix('torch.')}"
    table = Table(title=f"A step against its products alone: {device}, medians of {ROUNDS} rounds")
    for name in ("", "ms a step", "limit", "of the limit", "wanted", "samples/s"):
        table.add_column(name, justify="left" if not name else "right")
    for number, phase in enumerate(PHASES):
        seconds, limit = (median(values[number][part] for values in rounds) for part in (0, 1))
        share = median(values[number][1] / values[number][0] for values in rounds)
        table.add_row(
            phase.name,
            f"{seconds * 1e3:.2f}",
            f"{limit * 1e3:.2f}",
            f"{share:.0%}",
            "" if phase.wanted is None else f"{phase.wanted:.0%}",
            f"{phase.batch_size * phase.stacked / seconds:,.0f}",
        )
    console = Console(width=110)
    console.print(table)
    for name, profile in profiles:
        console.print(f"\n{name}\n{profile}", highlight=False)


def _measured(phase: Phase, folder: Path, record: DatasetRecord, runtime: Runtime) -> tuple[float, float]:
    """Seconds of a step, and of its products alone."""
    return step_of(phase, folder, record, runtime)(), limit_of(phase, record, runtime)


def _profile(phase: Phase, folder: Path, record: DatasetRecord, runtime: Runtime) -> str:
    """Where the time of a phase goes, by torch's operators."""
    step = step_of(phase, folder, record, runtime)
    with torch.profiler.profile() as profiler:
        step()
    rows = sorted(profiler.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in rows)
    return "\n".join(f"  {row.self_cpu_time_total / total:6.1%}  {row.count:7,} x  {row.key}" for row in rows[:12])


def step_of(phase: Phase, folder: Path, record: DatasetRecord, runtime: Runtime) -> Callable[[], float]:
    """A function that does a phase's epoch and gives back the seconds of one step."""
    whole = Split.open(folder, "train", record, runtime.device, streamed=phase.streamed)
    split = Split(whole.inputs[: phase.samples], whole.targets[: phase.samples], whole.mean, whole.std, phase.samples)
    if phase.goal is None:
        model = models.build(phase.model, record, runtime, 0)
        return lambda: _inference_seconds(model, split)
    return training_of(phase, phase.goal, split, record, runtime, folder)


def training_of(
    phase: Phase, goal: Goal, split: Split, record: DatasetRecord, runtime: Runtime, folder: Path, epochs: int = 1
) -> Callable[[], float]:
    """A function that trains a phase's models on a split and gives back the seconds of one step.

    Where the split is streamed, the teacher's logits are too.
    """
    built = [models.build(phase.model, record, runtime, seed) for seed in range(phase.stacked)]
    dtype = runtime.dtype(phase.precision)
    logits = torch.randn(1, len(split), record.classes)
    columns = (logits.numpy() if phase.streamed else logits.to(runtime.device),)
    teacher_logits = TeacherLogits(Encoding(dtype="float32"), record.classes, columns)
    batches = Batches(split, AugmentationSpec(), 1, dtype, teacher_logits if goal.distillation else None)
    training = TrainingSpec(epochs=epochs, batch_size=phase.batch_size)
    members = [Member(model, training, goal) for model in built]
    # The data are there already: what is free is without them.
    need = memory.of_training(built, training, split.normalised(slice(0, 1)), dtype, data=0)
    recorded = recorded_step.has_room(need, runtime.free_bytes, streamed=phase.streamed)

    def train() -> float:
        checkpoints = Checkpoints(Path(tempfile.mkdtemp(dir=folder)), 1e9)
        result = fit(members, batches, None, dtype, lambda *_: None, checkpoints, recorded=recorded)[0]
        if not isinstance(result, Trained):
            raise result
        how = result.record
        return how.seconds * how.together / how.steps

    return train


def _inference_seconds(model: nn.Module, split: Split) -> float:
    started = time.perf_counter()
    for _ in quality.logit_batches(model, split, lambda *_: None):
        pass
    _wait(split.device)
    return (time.perf_counter() - started) / -(-len(split) // quality.BATCH)


def limit_of(phase: Phase, record: DatasetRecord, runtime: Runtime) -> float:
    """Seconds of the products of a step: of each layer's forward pass, and of its gradients when it is trained.

    Each is repeated on one set of tensors, which then lie in the cache: more than a training can have.
    """
    model = models.build(phase.model, record, runtime)
    train, dtype = phase.goal is not None, runtime.dtype(phase.precision) if phase.goal else torch.float32
    seconds = 0.0
    for number, (layer, shape) in enumerate(_layers(model, phase.batch_size, record, runtime.device)):
        weight = layer.weight.detach().to(dtype)
        inputs = torch.randn(shape, device=runtime.device).to(dtype)
        if isinstance(layer, nn.Conv2d):
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            products = _convolutions(layer, inputs, weight, first=number == 0)
        else:
            products = _matrix_products(inputs.flatten(1), weight, phase.stacked, first=number == 0)
        seconds += sum(_timed(product, runtime.device) for product in products[: len(products) if train else 1])
    return seconds


def _layers(
    model: nn.Module, batch_size: int, record: DatasetRecord, device: torch.device
) -> list[tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]]:
    """The layers with products, in order, and the shapes of their inputs."""
    seen: list[tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]] = []
    handles = [
        layer.register_forward_hook(lambda layer, inputs, _: seen.append((layer, tuple(inputs[0].shape))))
        for layer in model.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    with torch.inference_mode():
        model.eval()(torch.zeros(batch_size, *record.shape, device=device))
    for handle in handles:
        handle.remove()
    return seen


def _matrix_products(
    inputs: torch.Tensor, weight: torch.Tensor, stacked: int, *, first: bool
) -> list[Callable[[], torch.Tensor]]:
    """Of a linear layer: forward, the weight's gradient, and the inputs' where something stands before it."""
    gradient = torch.randn(len(inputs), len(weight), device=inputs.device).to(inputs.dtype)
    if stacked > 1:
        inputs, weight, gradient = (
            each.expand(stacked, *each.shape).contiguous() for each in (inputs, weight, gradient)
        )
    products = [lambda: inputs @ weight.mT, lambda: gradient.mT @ inputs]
    return products if first else [*products, lambda: gradient @ weight]


def _convolutions(
    layer: nn.Conv2d, inputs: torch.Tensor, weight: torch.Tensor, *, first: bool
) -> list[Callable[[], torch.Tensor]]:
    """Of a convolution: forward, and both gradients in one."""
    geometry = layer.stride, _pair(layer.padding), layer.dilation
    gradient = torch.randn_like(nn.functional.conv2d(inputs, weight, None, *geometry))

    def backward() -> torch.Tensor:
        gradients = torch.ops.aten.convolution_backward(
            gradient, inputs, weight, None, *geometry, False, [0, 0], 1, [not first, True, False]
        )
        weight_gradient: torch.Tensor = gradients[1]
        return weight_gradient

    return [lambda: nn.functional.conv2d(inputs, weight, None, *geometry), backward]


def _pair(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    """A layer's padding, which torch also lets one name."""
    if isinstance(padding, str):
        raise TypeError(f"padding by name is not measured: {padding}")
    return padding


def _timed(product: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Median seconds of one product; on a GPU, where a step does not wait for each either, of many in a row."""
    rounds, in_a_row = (3, 6) if device.type == "cuda" else (REPETITIONS, 1)
    times = []
    with torch.inference_mode():
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(in_a_row):
                product()
            _wait(device)
            times.append((time.perf_counter() - started) / in_a_row)
    return median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
