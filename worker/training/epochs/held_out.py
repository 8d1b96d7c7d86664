"""Held-out samples: how good each member of a stack is on them after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from distill_queue.shared.results.class_scores import ClassScores, confusion_of
from distill_queue.shared.results.measure import Measure
from distill_queue.worker.data.split import Split
from distill_queue.worker.losses import cross_entropy
from distill_queue.worker.machine.inputs import Inputs, each
from distill_queue.worker.training.epochs.curves import hits_of

#: What a loss is taken for that is not finite: the worst that JSON holds.
WORST_LOSS = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """How good each member is on the held-out samples."""

    accuracies: list[float] | list[None]
    #: What epochs are compared by, where that is not the accuracy.
    measures: list[float] | None = None

    @classmethod
    def none(cls, members: int) -> HeldOutScores:
        """The scores where no samples are held out."""
        return cls([None] * members)


def held_out_scores(
    logits_of: Callable[[Inputs], torch.Tensor], held_out: Split, members: int, batch_size: int, measure: Measure
) -> HeldOutScores:
    """Take the held-out samples through the members.

    Args:
        logits_of: gives logits `[members, batch, classes]` of inputs `[members, batch, ...]`.
        held_out: the samples.
        members: how many there are.
        batch_size: samples of one pass.
        measure: what epochs are compared by.

    """
    hits = torch.zeros(members, device=held_out.device)
    tally = _LossTally(members) if measure == "loss" else None if measure == "accuracy" else _ClassTally(measure)
    for start in range(0, len(held_out), batch_size):
        rows = slice(start, start + batch_size)
        inputs = held_out.normalised(rows)
        logits = logits_of(each(inputs, lambda samples: samples.expand(members, *samples.shape)))
        hits += hits_of(logits, held_out.targets[rows])
        if tally:
            tally.note(logits, held_out.targets[rows])
    accuracies = (hits / len(held_out)).tolist()
    return HeldOutScores(accuracies, tally.sum_up() if tally else None)


class _LossTally:
    """The mean negative log-likelihood of the labels, in nats, without weights and smoothing."""

    def __init__(self, members: int) -> None:
        self._totals: torch.Tensor = torch.zeros(members, dtype=torch.float64)
        self._labelled = 0

    def note(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        labelled = int((targets >= 0).sum())
        means = torch.stack([cross_entropy(each, targets) for each in logits])
        self._totals += labelled * means.cpu().double()
        self._labelled += labelled

    def sum_up(self) -> list[float]:
        losses: list[float] = (self._totals / max(self._labelled, 1)).nan_to_num(WORST_LOSS, WORST_LOSS).tolist()
        return losses


class _ClassTally:
    """A score of the classes that are given."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._classes = 0
        self._targets: list[torch.Tensor] = []
        self._given: list[torch.Tensor] = []

    def note(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self._classes = logits.shape[2]
        self._targets.append(targets)
        self._given.append(logits.argmax(2))

    def sum_up(self) -> list[float]:
        targets = torch.cat(self._targets)
        labelled = targets >= 0
        own, given = targets[labelled].cpu().numpy(), torch.cat(self._given, 1)[:, labelled].cpu().numpy()
        found = (ClassScores.of(confusion_of(own, member, self._classes)) for member in given)
        return [getattr(each, self._measure) for each in found]
