"""Determinism: a part of a stage that gives the same bits every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distill_queue.worker.machine.generators import seed_generators


@contextmanager
def determinism(seed: int, device: torch.device, *, fill: bool = False) -> Iterator[None]:
    """Random numbers from a seed, and algorithms that give the same bits every time.

    Args:
        seed: of torch's generators, which are put back afterwards.
        device: the stage's device, whose generator is put back, too.
        fill: have torch fill the memory that it gives out with NaN.

    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]  # Costs time.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_generators(seed)
        # `torch.use_deterministic_algorithms` does this too, and loads a compiler to tell it: 1.3 s (torch 2.15).
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch._C._set_deterministic_algorithms(before)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
