"""Torch's generators are seeded as `torch.manual_seed` does it."""

from __future__ import annotations

import torch

from distill_queue.worker.machine.generators import seed_generators


def test_a_seed_gives_the_same_numbers_as_torchs_own_function() -> None:
    with torch.random.fork_rng(devices=[]):
        seed_generators(7)
        ours = torch.rand(5)
        torch.manual_seed(7)
        theirs = torch.rand(5)

    assert torch.equal(ours, theirs)
