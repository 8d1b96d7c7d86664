"""Course: what a pipeline does in order, step by step; messages, states and trees follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from distill_queue.shared.plan.stage import Bundle

#: Tasks in order.
Branch = tuple[Bundle, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Branches that run side by side, after all of the step before; or one task that runs alone."""

    branches: tuple[Branch, ...]
    alone: bool = False

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A task that runs alone."""
        return cls(((bundle,),), alone=True)

    @property
    def bundles(self) -> Iterator[Bundle]:
        """Every task's stages, branch by branch."""
        for branch in self.branches:
            yield from branch


def successive(steps: Sequence[Step]) -> Iterator[tuple[Bundle, Bundle]]:
    """Pairs of successive tasks' stages: those of the task before, and the task's own; first tasks come first."""
    for before, step in pairwise((Step(()), *steps)):
        for first, *_ in step.branches:
            yield from ((last, first) for *_, last in before.branches)
        for branch in step.branches:
            yield from pairwise(branch)
