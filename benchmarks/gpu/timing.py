"""Timing: how long something takes on a device, which computes while Python goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

#: Rounds of which the median counts, and seconds that each lasts at least.
ROUNDS, LEAST_SECONDS = 5, 0.02


def wait(device: torch.device) -> None:
    """Wait until a device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(do: Callable[[], object], device: torch.device, least_seconds: float = LEAST_SECONDS) -> float:
    """Seconds of one call, many in a row: medians of some rounds, after some calls that do not count."""
    _seconds(do, 1, device)  # Loads kernels.
    calls = max(1, int(least_seconds / max(_seconds(do, 3, device) / 3, 1e-6)))
    return median(_seconds(do, calls, device) for _ in range(ROUNDS)) / calls


def _seconds(do: Callable[[], object], calls: int, device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        do()
    wait(device)
    return time.perf_counter() - started
