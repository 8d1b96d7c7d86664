"""Accumulation: which of an epoch's batches make a step together."""

from __future__ import annotations

from collections.abc import Sequence


class Accumulation:
    """So many batches a step; an epoch's last step has those that are left."""

    def __init__(self, sizes: Sequence[int], batches: int) -> None:
        """Take the samples of each batch of an epoch, and the batches of a step."""
        self.sizes, self.batches = sizes, batches
        #: Optimiser steps of an epoch.
        self.steps = -(-len(sizes) // batches)

    def steps_after(self, batches: int) -> int:
        """How many steps of an epoch are taken after so many of its batches."""
        return self.steps if batches == len(self.sizes) else batches // self.batches

    def ends_step(self, batch: int) -> bool:
        """Whether a step is taken after a batch of an epoch, counted from 0."""
        return (batch + 1) % self.batches == 0 or batch + 1 == len(self.sizes)

    def part(self, batch: int) -> float:
        """A batch's part of the samples of its step, by which its mean loss counts."""
        first = batch - batch % self.batches
        return self.sizes[batch] / sum(self.sizes[first : first + self.batches])
