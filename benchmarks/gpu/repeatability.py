"""Repeatability: whether trainings have the same bytes twice, what torch says of it, and what it costs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import torch

from benchmarks.gpu.section import Part, Section, Setting
from benchmarks.gpu.steps import MODELS, random_split, record_of
from benchmarks.gpu.timing import wait
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.worker import models
from distill_queue.worker.machine.determinism import determinism

#: Those of torchvision's whose convolutions have a channel each: deterministic ones were slow.
MORE = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")
BATCH, SMALL_BATCH, STEPS = 256, 8, 6


def measure(setting: Setting) -> Iterator[Part]:
    """Take a few steps twice as the worker does, in bfloat16 where it is native, and once as torch likes it."""
    more = [(name, TorchvisionSpec(name=f"torchvision/{name}"), (3, 64, 64)) for name in MORE]
    for name, spec, shape in MODELS[:3] if setting.dry else (*MODELS, *more):
        torch.set_warn_always(True)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ways = [_trained(spec, shape, setting, deterministic=True) for _ in range(2)]
        torch.set_warn_always(False)
        _, free = _trained(spec, shape, setting, deterministic=False)
        said = {str(warning.message).split(".")[0][:100] for warning in told if "determinis" in str(warning.message)}
        yield {
            "model": name,
            "batch": SMALL_BATCH if setting.dry else BATCH,
            "the same bytes": "yes" if all(map(torch.equal, ways[0][0], ways[1][0])) else "no",
            "ms a step": ways[1][1] * 1e3,
            "ms, as torch likes it": free * 1e3,
            "torch says": "; ".join(sorted(said)),
        }


def _trained(
    spec: ModelSpec, shape: tuple[int, ...], setting: Setting, *, deterministic: bool
) -> tuple[list[torch.Tensor], float]:
    """The weights after some steps of plain SGD, and the seconds of one, the first left out."""
    record, dtype = record_of(shape), setting.runtime.dtype("auto")
    model = models.build(spec, record, setting.runtime, 0).train()
    parameters = list(model.parameters())
    generator = torch.Generator(setting.device).manual_seed(0)
    split = random_split(record, SMALL_BATCH if setting.dry else BATCH, setting.device, generator)
    inputs, started = split.normalised(slice(None)), 0.0
    with determinism(0, setting.device):
        if not deterministic:
            torch._C._set_deterministic_algorithms(False, warn_only=False)
        for step in range(STEPS):
            if step == 1:
                wait(setting.device)
                started = time.perf_counter()
            with torch.autocast(setting.device_type, dtype, enabled=dtype != torch.float32):
                logits = model(inputs)
            torch.nn.functional.cross_entropy(logits.float(), split.targets).backward()
            with torch.no_grad():
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=0.01)
                        parameter.grad = None
        wait(setting.device)
    return [parameter.detach() for parameter in parameters], (time.perf_counter() - started) / (STEPS - 1)


SECTION = Section("repeatability", "The same bytes twice", 40.0, measure)
