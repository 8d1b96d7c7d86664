"""Generators: torch's own, which layers and functions draw random numbers from by default."""

from __future__ import annotations

import torch


def seed_generators(seed: int) -> None:
    """Seed torch's generators, of the CPU and of all GPUs; the caller has to restore them.

    `torch.manual_seed` is slower: for each kind of device that is missing it formats the stack of its callers, in case
    the device appears later. That takes 1 to 5 ms, several times a stage (torch 2.15).
    """
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
