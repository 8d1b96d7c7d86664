"""Orders: in which order each member of a stack sees the samples, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distill_queue.worker.training.epochs.pools import Pool


class Orders:
    """Random orders of the samples, each member's from a seed of its own; an epoch's can be drawn again."""

    def __init__(self, seeds: Sequence[int], samples: int, pools: Sequence[Pool | None]) -> None:
        """Draw nothing yet.

        Args:
            seeds: of each member.
            samples: how many an epoch shows.
            pools: of each member, the rows that it learns from; None for all.

        """
        self._samples, self._pools = samples, pools
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        #: The generators as they were before they drew the present epoch's orders: what a checkpoint holds of them.
        self.states: list[torch.Tensor] = []
        self.remember()

    def draw(self) -> torch.Tensor:
        """The rows `[members, samples]` of an epoch, on the CPU."""
        self.remember()
        return torch.stack([self._order(*each) for each in zip(self._pools, self._generators, strict=True)])

    def remember(self) -> None:
        """Take down the generators as they are now: who loads these states draws what they draw next."""
        self.states = [generator.get_state() for generator in self._generators]

    def load(self, states: Sequence[torch.Tensor]) -> None:
        """Have the next epoch drawn by the generators as they were, for each member."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def _order(self, pool: Pool | None, generator: torch.Generator) -> torch.Tensor:
        """Rows `[samples]` in random order: of all, or of a pool."""
        if pool is None:
            return torch.randperm(self._samples, generator=generator)
        if len(pool) == 1:
            return _drawn(pool[0], self._samples, generator)
        each, left = divmod(self._samples, len(pool))
        once_more = set(torch.randperm(len(pool), generator=generator)[:left].tolist())
        groups = [_drawn(rows, each + (place in once_more), generator) for place, rows in enumerate(pool)]
        return torch.cat(groups)[torch.randperm(self._samples, generator=generator)]


def _drawn(rows: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """So many of some rows in random order; if they are too few, all of them over and over."""
    rounds = -(-count // len(rows))
    orders = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)]
    return torch.cat(orders)[:count] if orders else rows[:0]
