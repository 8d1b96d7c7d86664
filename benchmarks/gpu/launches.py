"""Launches: how much of a step is Python telling the card what to do, by what CUDA graphs and a compiler would save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.section import Part, Row, Section, Setting
from benchmarks.gpu.steps import GREY, MODELS, TEACHER, record_of
from benchmarks.gpu.timing import seconds_of, wait
from benchmarks.limits import KD
from distill_queue.shared.line import first_line
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.data.batches import Batch
from distill_queue.worker.machine.determinism import determinism
from distill_queue.worker.training.descent import optimizers
from distill_queue.worker.training.descent.optimizers import Group
from distill_queue.worker.training.objective import Objective
from distill_queue.worker.training.stack import Stack

BATCHES, SMALL_BATCHES = (64, 256, 1_024, 4_096), (16,)
#: The batch that is compiled for, since that takes long.
COMPILED_BATCH = 256
COMPILE_MODES = {"compiled": "default", "compiled, with graphs": "reduce-overhead"}
WARM_UPS = 5


@dataclass(slots=True)
class Step:
    """The worker's step without its loop: forward, losses, backward, optimiser, always on one batch."""

    stack: Callable[[Any], torch.Tensor]
    objective: Objective
    optimizer: optimizers.Optimizer
    batch: Batch
    autocast: AbstractContextManager[object]

    @classmethod
    def of(cls, spec: ModelSpec, batch_size: int, setting: Setting) -> Step:
        """A distillation's, on random samples, in the precision `auto`."""
        record, device = record_of(GREY), setting.device
        dtype = setting.runtime.dtype("auto")
        model = models.build(spec, record, setting.runtime, 0)
        batch = Batch(
            torch.randn(1, batch_size, *GREY, device=device).to(dtype),
            torch.randint(0, record.classes, (1, batch_size), device=device),
            torch.randn(1, batch_size, record.classes, device=device),
        )
        parameters: list[torch.Tensor] = list(model.parameters())
        groups = Group.of(parameters, parameters, [1e-3] * len(parameters), 0.0)
        # Without the cache of weights that were cast: a graph would go on with those of its recording.
        cast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)
        return cls(Stack([model]), Objective([KD], device), optimizers.build(TrainingSpec(), groups), batch, cast)

    def __call__(self) -> None:
        """Take a step."""
        with self.autocast:
            logits = self.stack(self.batch.inputs)
        self.objective(logits, self.batch).sum().backward()
        self.optimizer.step(1.0)


def measure(setting: Setting) -> Iterator[Part]:
    """Time the step as it is, as a graph, and compiled."""
    with determinism(0, setting.device):
        for name, spec, _ in (MODELS[0], MODELS[2]):
            for batch_size in SMALL_BATCHES if setting.dry else BATCHES:
                yield from _ways(name, spec, batch_size, setting)
        if setting.dry:
            yield "graphs and compilers are left out of a dry run"
            return
        for name, spec in (("MLP 512-256", TEACHER), (MODELS[2][0], MODELS[2][1])):
            yield from _compiled(name, spec, setting)
    yield "seconds first: what recording or compiling takes before the first step"


def _ways(name: str, spec: ModelSpec, batch_size: int, setting: Setting) -> Iterator[Row]:
    step = Step.of(spec, batch_size, setting)
    eager = seconds_of(step, setting.device)
    where: Row = {"model": name, "batch": batch_size}
    yield where | {"how": "eager, as it is", "ms a step": eager * 1e3}
    if setting.device_type == "cuda":
        yield where | _tried("a CUDA graph of the step", eager, lambda: _recorded(step), setting)


def _compiled(name: str, spec: ModelSpec, setting: Setting) -> Iterator[Row]:
    where: Row = {"model": name, "batch": COMPILED_BATCH}
    eager = seconds_of(Step.of(spec, COMPILED_BATCH, setting), setting.device)
    for how, mode in COMPILE_MODES.items():
        step = Step.of(spec, COMPILED_BATCH, setting)
        forward = torch.compile(_forward_of(step.stack), mode=mode)

        def ready(step: Step = step, forward: Callable[[torch.Tensor], torch.Tensor] = forward) -> Step:
            step.stack = forward
            for _ in range(WARM_UPS):
                step()
            return step

        yield where | _tried(f"{how} forward and backward", eager, ready, setting)


def _tried(how: str, eager: float, prepare: Callable[[], Callable[[], object]], setting: Setting) -> Row:
    """Time a step that must be prepared; what goes wrong there is said in the row."""
    started = time.perf_counter()
    try:
        step = prepare()
        wait(setting.device)
        first = time.perf_counter() - started
        seconds = seconds_of(step, setting.device)
    except Exception as error:
        return {"how": how, "remark": f"failed: {first_line(error)[:100]}"}
    return {"how": how, "ms a step": seconds * 1e3, "times as fast": eager / seconds, "seconds first": first}


def _recorded(step: Step) -> Callable[[], object]:
    """A CUDA graph of a step, replayed by a call."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _forward_of(stack: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A stack of one as a module, which is what compilers take."""

    class Forward(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return stack(inputs)

    return Forward()


SECTION = Section("launches", "Steps without launches: CUDA graphs and torch.compile", 90.0, measure)
