"""Teacher checks: whether a teacher whose weights were given knows the data, and sees them as it was trained to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.results.records import DatasetRecord, DataWarning
from distill_queue.shared.spec.sources.normalise import NormaliseInputs
from distill_queue.worker.data.normalisation import Normalisation
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine.inputs import through
from distill_queue.worker.machine.runtime import Report

#: Samples that are enough to tell, and those that are too few to tell chance.
ENOUGH = 1_000
TOO_FEW = 30
#: Samples on which other ways are tried first: on all only where one of them is not behind.
FEW = 200
#: By how much a teacher is to be more often right on other inputs before a warning says so: as a share of 1, and in
#: standard errors.
BETTER = 0.05
CLEAR = 3.0
#: Standard errors above chance up to which a teacher may know nothing.
BY_CHANCE = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What a teacher says of some labelled samples that were normalised in one way; none of tokens."""

    way: Normalisation | None
    #: Classes `[samples]`, and which of them are right.
    choices: torch.Tensor
    right: torch.Tensor
    #: Mean cross-entropy of the labels, in nats.
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of the samples on which it is right."""
        return self.right.double().mean().item()

    @property
    def words(self) -> str:
        """How often it is right, and on what."""
        return f"{self.accuracy:.1%}" + (f" {self.way.words}" if self.way else "")

    def clearly_better(self, other: Trial) -> bool:
        """Whether what only this one has right is clearly more than what only the other one has (McNemar 1947)."""
        won, lost = ((a & ~b).sum().item() for a, b in ((self.right, other.right), (other.right, self.right)))
        return won - lost >= BETTER * len(self.right) and won - lost > CLEAR * math.sqrt(won + lost)

    def above_chance(self, targets: torch.Tensor) -> tuple[float, float]:
        """By how much it is more often right than if choices and labels had nothing to do with each other.

        Returns:
            As a share of 1, and the standard error of that.

        """
        classes = int(max(targets.max(), self.choices.max())) + 1
        labelled, chosen = (torch.bincount(each, minlength=classes).double() for each in (targets, self.choices))
        expected = (labelled * chosen).sum().item() / len(targets) ** 2
        return self.accuracy - expected, math.sqrt(expected * (1.0 - expected) / len(targets))

    def by_chance(self, targets: torch.Tensor) -> bool:
        """Whether nothing speaks for more than chance; of few samples, or those of one class, nothing can."""
        above, error = self.above_chance(targets)
        return len(targets) >= TOO_FEW and len(targets.unique()) > 1 and above <= BY_CHANCE * error


def check(
    model: nn.Module, normalise: NormaliseInputs, data: DatasetRecord, train: Split, batch_size: int, report: Report
) -> Iterator[DataWarning]:
    """The warning about a teacher, of which there is at most one.

    Other ways to normalise are tried only where one can be clearly better.

    Args:
        model: with its weights, on the device, and not prepared in any way.
        normalise: what the spec says that it was trained on.
        data: what the samples are.
        train: the training samples.
        batch_size: of a forward pass.
        report: called after each batch.

    Raises:
        StageStopped: `report` raised it.
        InvalidSpec: the data cannot be normalised so.

    """
    rows = _labelled(train)
    if not len(rows):
        return
    targets = train.targets.cpu()[rows]
    now = None if not data.mean else Normalisation.of(normalise, data, bytes_=train.stored_as_bytes)

    def trial(way: Normalisation | None, places: torch.Tensor | slice = slice(None)) -> Trial:
        return _trial(model, way, data, train, rows[places].split(batch_size), report)

    own, others = trial(now), list[Trial]()
    if now and own.accuracy <= 1.0 - BETTER:
        ways = [way for way in _ways(data, train, rows.split(batch_size)) if way.values != now.values]
        few = torch.arange(min(FEW, len(rows))) * len(rows) // min(FEW, len(rows))
        right = own.right[few].double().mean().item()
        if own.by_chance(targets) or any(trial(way, few).accuracy >= right for way in ways):
            others = [trial(way) for way in ways]
    found = f"of {len(rows):,} labelled training samples the teacher is right on {own.words}"
    best = _best(others)
    if best and best.way and best.clearly_better(own) and best.above_chance(targets)[0] >= BETTER:
        text = f"{found}, and on {best.words}: {_advice(best.way, bytes_=train.stored_as_bytes)}"
        yield DataWarning(kind="normalisation", text=text)
    elif own.by_chance(targets):
        tried = "".join(f", {other.words}" for other in others)
        text = (
            f"{found}{tried}; that is no more than by chance: it knows other data, or classes in another order, or "
            "wants inputs that a data set of your own has to make"
        )
        yield DataWarning(kind="teacher_at_chance", text=text)


def _labelled(train: Split) -> torch.Tensor:
    """Labelled samples in equal steps from the first to the last one, as they may lie in the order of their classes."""
    labelled = (train.targets >= 0).nonzero()[:, 0].cpu()
    count = min(ENOUGH, len(labelled))
    return labelled[torch.arange(count) * len(labelled) // max(count, 1)]


def _ways(data: DatasetRecord, train: Split, batches: tuple[torch.Tensor, ...]) -> Iterator[Normalisation]:
    """The ways in which others may have normalised such samples, each once."""
    names: tuple[NormaliseInputs, ...] = ("data", "none", "unit")
    if len(data.mean) == 3 == len(data.shape):
        names = (*names, "imagenet")
    ways = [Normalisation.of(name, data) for name in names]
    if (largest := max(train.read(rows).float().max().item() for rows in batches)) > 1:
        ways.append(Normalisation.by_largest(largest))
    yield from {way.values: way for way in reversed(ways)}.values()


@torch.inference_mode()
def _trial(
    model: nn.Module,
    way: Normalisation | None,
    data: DatasetRecord,
    train: Split,
    batches: tuple[torch.Tensor, ...],
    report: Report,
) -> Trial:
    model.eval()
    prepared = way.prepare(model, data, train.device) if way else None
    parts = []
    try:
        for rows in batches:
            report("tries it on labelled samples" + (f" {way.words}" if way else ""))
            parts.append(through(model, train.normalised(rows)).float().cpu())
    finally:
        if prepared:
            prepared.remove()
    logits, targets = torch.cat(parts), train.targets.cpu()[torch.cat(batches)]
    choices = logits.argmax(1)
    loss = functional.cross_entropy(logits, targets).item()
    return Trial(way, choices, choices == targets, loss if math.isfinite(loss) else math.inf)


def _best(trials: list[Trial]) -> Trial | None:
    """Of the trials that no other one is clearly better than, that of the least loss.

    Pixels 255 times as large often lead to the same classes, and to probabilities that say nothing any more.
    """
    good = [trial for trial in trials if not any(other.clearly_better(trial) for other in trials)]
    return min(good, key=lambda trial: trial.loss, default=None)


def _advice(way: Normalisation, *, bytes_: bool) -> str:
    match way.name:
        case "data":
            return "leave out 'normalise'"
        case None:
            largest = way.std[0] / (255.0 if bytes_ else 1.0)
            return f"say 'normalise: {{mean: [0], std: [{largest:.6g}]}}' beside its checkpoint"
        case name:
            return f"say 'normalise: {name}' beside its checkpoint"
