"""Steps: one step of teachers and students by batch, against its own products and the device's ceiling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.section import Part, Row, Section, Setting
from benchmarks.limits import KD, Phase, limit_of, training_of
from distill_queue.shared.line import first_line
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.data.batches import size_bytes
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine import memory
from distill_queue.worker.training.objective import Goal

PRECISIONS: tuple[Literal["auto", "float32"], ...] = ("auto", "float32")

TEACHER, STUDENT = MlpSpec(hidden=(512, 256)), MlpSpec(hidden=(128,))
GREY, COLOUR, LARGE = (1, 28, 28), (3, 32, 32), (3, 64, 64)
#: Name, model, and shape of a sample.
MODELS: tuple[tuple[str, ModelSpec, tuple[int, ...]], ...] = (
    ("MLP 512-256", TEACHER, GREY),
    ("MLP 128", STUDENT, GREY),
    ("CNN 32-64-128", CnnSpec(), GREY),
    ("resnet20, 32 px", ResnetSpec(name="resnet20"), COLOUR),
    ("ResNet-18, 64 px", TorchvisionSpec(name="torchvision/resnet18"), LARGE),
)
BATCHES, SMALL_BATCHES = (64, 256, 1_024, 4_096, 16_384), (16,)
#: Batches that are timed in float32 too.
BATCHES_IN_FLOAT32 = (*SMALL_BATCHES, 256, 4_096)
#: Steps that are timed at least: of small batches, whose first steps are not replayed yet; of others; of large ones.
SMALL_BATCH, LEAST_SMALL_STEPS, LEAST_STEPS, LARGE_BATCH, LEAST_LARGE_STEPS = 256, 192, 24, 4_096, 6
#: Of the samples that are made for them, at most.
SPLIT_BYTES = 400_000_000
#: Samples that operations are counted with.
COUNTED = 8


@dataclass(frozen=True, slots=True)
class Known:
    """What is the same for teachers and students."""

    #: Seconds of the products alone, by model, batch and precision.
    limits: dict[tuple[str, int, str], float] = field(default_factory=dict)
    #: Operations of a sample's way forward and back, by model.
    operations: dict[str, float] = field(default_factory=dict)


def measure(setting: Setting) -> Iterator[Part]:
    """Time teacher and student of each model, precision by precision, batch by batch."""
    known = Known()
    for batch_size in SMALL_BATCHES if setting.dry else BATCHES:
        for name, spec, shape in MODELS[:3] if setting.dry else MODELS:
            for does, goal in (("teacher", Goal()), ("student", KD)):
                for precision in PRECISIONS if batch_size in BATCHES_IN_FLOAT32 else PRECISIONS[:1]:
                    phase = Phase(name, spec, batch_size, 0, goal, precision=precision)
                    yield _row(phase, goal, does, shape, setting, known)
    yield (
        "teacher: trained with labels; student: distilled; of its products: the same matrix products or convolutions "
        "alone, against the step; of the ceiling: operations a second against the fastest product of that precision "
        "above; GB: by the worker's estimate, and allocated at the peak, both without the weights"
    )


def record_of(shape: tuple[int, ...], classes: int = 10, samples: int = 1_024) -> DatasetRecord:
    """The facts of random bytes."""
    return DatasetRecord(
        shape=shape,
        class_names=tuple(map(str, range(classes))),
        train_samples=samples,
        labelled_samples=samples,
        validation_samples=0,
        test_samples=samples,
        mean=(127.5,) * shape[0],
        std=(73.9,) * shape[0],
    )


def random_split(
    record: DatasetRecord, samples: int, device: torch.device, generator: torch.Generator | None = None
) -> Split:
    """Random bytes with random labels, on a device."""
    inputs = torch.randint(0, 256, (samples, *record.shape), dtype=torch.uint8, device=device, generator=generator)
    targets = torch.randint(0, record.classes, (samples,), device=device, generator=generator)
    mean, std = (torch.tensor(each, device=device).view(-1, 1, 1) for each in (record.mean, record.std))
    return Split(inputs, targets, mean, std, samples)


def samples_for(batch_size: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Samples of an epoch, and epochs, for enough steps of a batch size."""
    most = max(2, min(64, SPLIT_BYTES // (batch_size * math.prod(shape))))
    least = LEAST_LARGE_STEPS if batch_size >= LARGE_BATCH else LEAST_STEPS
    if batch_size <= SMALL_BATCH and shape != LARGE:
        least = LEAST_SMALL_STEPS
    return most * batch_size, math.ceil(least / most)


def _row(phase: Phase, goal: Goal, does: str, shape: tuple[int, ...], setting: Setting, known: Known) -> Row:
    dtype = setting.runtime.dtype(phase.precision)
    row: Row = {
        "model": phase.name,
        "as": does,
        "precision": str(dtype).removeprefix("torch."),
        "batch": phase.batch_size,
    }
    try:
        return row | _figures(phase, goal, shape, setting, known)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_short(error):
            raise
        return row | {"remark": f"out of memory: {first_line(error)[:60]}"}
    finally:
        if setting.device_type == "cuda":
            torch.cuda.empty_cache()


def _figures(phase: Phase, goal: Goal, shape: tuple[int, ...], setting: Setting, known: Known) -> Row:
    record, runtime = record_of(shape), setting.runtime
    samples, epochs = samples_for(phase.batch_size, shape)
    if setting.dry:
        samples, epochs = 2 * phase.batch_size, 1
    before = _allocated(setting)
    split = random_split(record, samples, setting.device)
    estimated, weights = _estimate(phase, split, record, setting)
    train = training_of(phase, goal, split, record, runtime, setting.folder, epochs)
    _allocated(setting)
    train()  # Loads kernels.
    peak = torch.cuda.max_memory_allocated() - before - weights if setting.device_type == "cuda" else 0
    seconds = train()
    if phase.name not in known.operations:
        known.operations[phase.name] = _operations(phase.model, record, setting)
    rate = known.operations[phase.name] * phase.batch_size / seconds
    alone = phase.name, phase.batch_size, phase.precision
    if alone not in known.limits:
        known.limits[alone] = limit_of(phase, record, runtime)
    row: Row = {"ms a step": seconds * 1e3, "samples/s": phase.batch_size / seconds}
    row["of its products"] = f"{known.limits[alone] / seconds:.0%}"
    row["TFLOP/s"] = rate / 1e12
    if ceiling := setting.peaks.get(_precision(phase, setting)):
        row["of the ceiling"] = f"{rate / ceiling:.1%}"
    row["GB estimated"] = estimated / 1e9
    return row | ({"GB at the peak": peak / 1e9} if peak else {})


def _precision(phase: Phase, setting: Setting) -> str:
    """The precision of the ceiling that a phase is held against."""
    dtype = setting.runtime.dtype(phase.precision)
    convolves = not isinstance(phase.model, MlpSpec)
    if dtype == torch.float32 and convolves and setting.device_type == "cuda" and torch.backends.cudnn.allow_tf32:
        return "tf32"
    return str(dtype).removeprefix("torch.")


def _allocated(setting: Setting) -> int:
    """Bytes that torch holds on the card; the peak counts from here."""
    if setting.device_type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _estimate(phase: Phase, split: Split, record: DatasetRecord, setting: Setting) -> tuple[int, int]:
    """Bytes that the worker expects a training to take, and those of the weights, which it does not count."""
    dtype = setting.runtime.dtype(phase.precision)
    model = models.build(phase.model, record, setting.runtime)
    data = size_bytes(split, AugmentationSpec(), dtype) + 4 * len(split) * record.classes
    training = TrainingSpec(batch_size=phase.batch_size)
    need = memory.of_training([model], training, split.normalised(slice(0, 1)), dtype, data)
    return need.total, sum(parameter.nbytes for parameter in model.parameters())


def _operations(spec: ModelSpec, record: DatasetRecord, setting: Setting) -> float:
    """Operations of a sample's way forward and back, two for a multiplication with an addition."""
    model = models.build(spec, record, setting.runtime)
    inputs = torch.randn(COUNTED, *record.shape, device=setting.device)
    with FlopCounterMode(display=False) as counter:
        model(inputs).sum().backward()
    return counter.get_total_flops() / COUNTED


SECTION = Section("steps", "Steps of teachers and students", 120.0, measure)
