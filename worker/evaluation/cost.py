"""Cost: a model's multiply-adds, and how long it takes for one sample and for many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill_queue.shared.plan.recipes import Counting
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine.inputs import Inputs, first, through

#: Seconds and runs after which a timing ends. In 60 timings of an MLP of 64-8-10 on a busy machine, the middle 80 % of
#: the medians lay as close together with 200 runs as with 500 (34 us: 31 to 38, and 27 to 37).
TIMING_SECONDS = 0.1
TIMING_RUNS = 200


@torch.inference_mode()
def multiply_adds(model: nn.Module, data: Split, counting: Counting) -> int:
    """Multiply-adds of one sample's forward pass, counted in matrix products and convolutions."""
    model.eval()
    sample = data.normalised(slice(0, 1))
    return _of_layers(model, sample) if counting == "layers" else _of_operators(model, sample)


def _of_layers(model: nn.Module, sample: Inputs) -> int:
    """Multiply-adds in a model's linear and convolutional layers."""
    counts: list[int] = []

    def count(layer: nn.Module, _inputs: object, outputs: torch.Tensor) -> None:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            counts.append(outputs.numel() * layer.weight[0].numel())

    handles = [layer.register_forward_hook(count) for layer in model.modules()]
    through(model, sample)
    for handle in handles:
        handle.remove()
    return sum(counts)


def _of_operators(model: nn.Module, sample: Inputs) -> int:
    """Multiply-adds as torch counts them, for any model; torch loads a compiler for that, once, in 0.8 s."""
    from torch.utils.flop_counter import FlopCounterMode

    with _products_apart(), FlopCounterMode(display=False, custom_mapping=_uncounted_by_torch()) as counter:
        through(model, sample)
    return counter.get_total_flops() // 2


@contextmanager
def _products_apart() -> Iterator[None]:
    """Have torch compute each product by itself: its fast paths for attention and LSTMs join many, and count none."""
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    fast, enabled = torch.backends.mha.get_fastpath_enabled(), [library.enabled for library in libraries]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for library in libraries:
            library.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, was_enabled in zip(libraries, enabled, strict=True):
            library.enabled = was_enabled


def _uncounted_by_torch() -> dict[Any, Callable[..., int]]:
    """Functions that count twice the multiply-adds, from shapes, of products that torch's counter does not know."""
    aten = torch.ops.aten
    return {
        aten.dot: lambda one, _other, **_: 2 * prod(one),
        aten.mv: lambda matrix, _vector, **_: 2 * prod(matrix),
        aten.addmv: lambda _to, matrix, _vector, **_: 2 * prod(matrix),
        aten.addbmm: lambda _to, one, other, **_: 2 * prod(one) * other[-1],
        aten._trilinear: _of_bilinear,
    }


def _of_bilinear(one: list[int], weight: list[int], *_: object, **__: object) -> int:
    """Of `nn.Bilinear`, weight `[outputs, inputs, others]`: for each row, weight times one input, times the other."""
    outputs, inputs, others = weight[-3:]
    return 2 * prod(one[:-1]) * outputs * (inputs * others + others)


def latency_ms(model: nn.Module, data: Split) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds, of a forward pass at batch 1."""
    times = [seconds * 1e3 for seconds in _timings(model, data.normalised(slice(0, 1)))]
    return median(times), quantiles(times, n=20)[-1]


def throughput(model: nn.Module, data: Split, batch_size: int) -> float:
    """Samples a second at large batches."""
    batch = data.normalised(slice(0, batch_size))
    return len(first(batch)) / median(_timings(model, batch))


@torch.inference_mode()
def _timings(model: nn.Module, batch: Inputs) -> list[float]:
    """Seconds of single forward passes, after a warm-up."""
    model.eval()
    times: list[float] = []
    deadline = time.perf_counter() + TIMING_SECONDS
    while len(times) < TIMING_RUNS and (time.perf_counter() < deadline or len(times) < 5):
        started = time.perf_counter()
        through(model, batch)
        if first(batch).is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times[max(1, len(times) // 10) :]
