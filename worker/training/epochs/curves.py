"""Learning curves: what is measured of a member step by step, and what that comes to epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from distill_queue.shared.results.measure import Measure, best_place, in_words


class Point(NamedTuple):
    """What an epoch came to."""

    #: Mean over the epoch's samples, as each was when the model saw it.
    loss: float
    #: On the training samples that have a label, from 0 to 1.
    train_accuracy: float
    #: On the held-out samples; None where nothing is held out.
    held_out_accuracy: float | None


@dataclass(slots=True)
class Curve:
    """The learning curve of one member."""

    points: list[Point] = field(default_factory=list)
    #: What epochs are compared by on the held-out samples, where that is not the accuracy, and its values.
    best_by: Measure | None = None
    measures: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def best_epoch(self) -> int:
        """The first epoch, counted from 1, that is best on the held-out samples; 0 before the first."""
        if not self.points:
            return 0
        if self.best_by and self.measures:
            return best_place(self.measures, self.best_by) + 1
        return best_place([point.held_out_accuracy or 0.0 for point in self.points], "accuracy") + 1

    @property
    def epochs_since_best(self) -> int:
        """Epochs that were no better than the best one."""
        return len(self) - self.best_epoch

    @property
    def last_in_words(self) -> str:
        """What the last epoch came to."""
        last = self.points[-1]
        words = f"loss {last.loss:.3f} · {last.train_accuracy:.1%}"
        if last.held_out_accuracy is None:
            return words
        compared = f", {in_words(self.measures[-1], self.best_by)}" if self.best_by and self.measures else ""
        return f"{words} · {last.held_out_accuracy:.1%}{compared} held out"

    def measure_of(self, epoch: int) -> float | None:
        """What an epoch, counted from 1, is compared by; None where that is the accuracy."""
        return self.measures[epoch - 1] if self.measures else None


class Tally:
    """Losses and right answers of the epoch so far, counted on the device, without waiting for it."""

    def __init__(
        self, sizes: Sequence[int], labelled: Sequence[int], device: torch.device, *, skipping: bool = False
    ) -> None:
        """Count nothing yet.

        Args:
            sizes: samples of each batch of an epoch.
            labelled: of each member, how many samples of an epoch have a label.
            device: where models and counts lie.
            skipping: whether batches whose loss is not finite are left out, as no step is taken down it.

        """
        self._skipping = skipping
        self._sizes = torch.tensor(sizes, dtype=torch.float32, device=device)
        self._samples = sum(sizes)
        self._labelled = torch.tensor(labelled, device=device)
        #: Mean loss of each batch, `[members, batches]`; those to come are left from the epoch before.
        self.losses = torch.zeros(len(labelled), len(sizes), device=device)
        #: Samples `[members]` on which the largest logit was that of the label.
        self.hits = torch.zeros(len(labelled), device=device)

    def note(self, batch: int, losses: torch.Tensor, hits: torch.Tensor) -> None:
        """Count a batch: its losses and its right answers, both `[members]`."""
        self.losses[:, batch] = losses
        self.hits += hits

    def sum_up(self) -> tuple[list[float], list[float], list[int | None]]:
        """Of each member the epoch's mean loss, its accuracy, and the first batch whose loss was not finite.

        Where a loss scale skips batches, single losses may be infinite: it counts only if all of the epoch were.
        """
        finite = self.losses.isfinite()
        if self._skipping and finite.any():
            losses = (self.losses.where(finite, 0.0) @ self._sizes / (finite.float() @ self._sizes)).tolist()
            finite[:] = True
        else:
            losses = (self.losses @ self._sizes / self._samples).tolist()
        accuracies = (self.hits / self._labelled).tolist()
        self.hits.zero_()
        return losses, accuracies, [None if all(batches) else batches.index(False) for batches in finite.tolist()]


def hits_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """On how many samples the largest logit is the label's, `[members]`.

    Args:
        logits: `[members, batch, classes]`.
        targets: `[members, batch]`, or `[batch]` of all members.

    """
    return (logits.argmax(2) == targets).sum(1)
