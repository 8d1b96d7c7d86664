"""The training loop, on tensors that lie whole in the device's memory; it can be left and gone on with at any step."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from distill_queue.shared.errors import Cancelled, HandedBack, StageFailed
from distill_queue.shared.results.history import History
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.arrays import Split
from distill_queue.worker.data.batches import Batches, batch_sizes
from distill_queue.worker.evaluation.quality import BATCH
from distill_queue.worker.machine.runtime import Report, determinism
from distill_queue.worker.models import parameters, trained_parameters
from distill_queue.worker.training import optimizers, schedules
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints
from distill_queue.worker.training.objective import Goal, Objective
from distill_queue.worker.training.optimizers import Group
from distill_queue.worker.training.stack import Slice, Stack

#: Of each epoch: mean loss, accuracy on the training samples, and on the held-out ones.
Curve = list[tuple[float, float, float | None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A model that is trained in place, how, and for what; members of one stack differ in seed and learning rate."""

    model: nn.Module
    training: TrainingSpec
    goal: Goal


@dataclass(frozen=True, slots=True)
class Trained:
    """How a member was trained: in sum, and epoch by epoch."""

    record: TrainingRecord
    history: History


def fit(
    members: Sequence[Member],
    batches: Batches,
    held_out: Split | None,
    dtype: torch.dtype,
    report: Report,
    checkpoints: Checkpoints,
    *,
    joined: bool = False,
) -> list[Trained | StageFailed]:
    """Train models of one shape in place, side by side, from their last checkpoint if there is one.

    An epoch shows each member as many samples as the split has; a member that learns from labels alone sees the
    labelled ones, more than once if they are few. With the same kind of device, number of threads and version of
    torch, the weights are the same to the bit however often the training was left and gone on with.

    Args:
        members: the models.
        batches: the training samples, with the teacher's logits where a goal is a distillation.
        held_out: samples to choose epochs by, where a training asks for it.
        dtype: of the matrix products.
        report: told of every step.
        checkpoints: where to write and to find them.
        joined: add a last batch of one sample to the one before it.

    Returns:
        Of each member how it was trained, or that its loss was not finite any more.

    Raises:
        StageStopped: `report` raised it; a checkpoint was written if the stage is still this worker's.

    """
    # Members with one learning rate stand together, so that one slice of the stack is one tensor to the optimiser.
    order = sorted(range(len(members)), key=lambda index: members[index].training.learning_rate)
    state = _State([members[index] for index in order], batches, held_out, joined=joined)
    with determinism(members[0].training.seed, state.device):
        if checkpoint := checkpoints.latest():
            try:
                state.load(checkpoint)
            except Exception:
                checkpoints.clear()  # The next attempt begins anew.
                raise
            logger.info("goes on from step %d of %d", state.steps, state.last_step)
        del checkpoint  # As large as the models and more.
        while not state.ended:
            _epoch(state, dtype, report, checkpoints)
        state.keep_the_best()
    results = state.results(str(dtype).removeprefix("torch."))
    return [results[order.index(index)] for index in range(len(members))]


def _epoch(state: _State, dtype: torch.dtype, report: Report, checkpoints: Checkpoints) -> None:
    """Train from the state's step to the end of its epoch."""
    of_epochs, so_far = f"epoch {state.epoch + 1}/{state.training.epochs}", state.summary
    started = time.monotonic()
    view = state.batches.view(state.epoch)
    state.stack.train(mode=True)
    with closing(state.batches.each(state.rows_left(), view)) as batches:
        for batch in batches:
            with torch.autocast(state.device.type, dtype, enabled=dtype != torch.float32):
                logits = state.stack(batch.inputs)
            losses = state.objective(logits, batch)
            state.descend(losses)
            state.note(losses.detach(), logits.detach(), batch.targets)
            try:
                words = f"{of_epochs} · step {state.step}/{state.steps_an_epoch}{so_far}"
                report(words, batch.targets.numel(), state.share)
            except (HandedBack, Cancelled):
                checkpoints.save(state.steps, state.checkpoint())
                raise
            if checkpoints.due:
                checkpoints.save(state.steps, state.checkpoint())
    state.end_epoch(dtype)
    report(told := f"{of_epochs}{state.summary}", 0, state.share)
    logger.info(told)
    kept_for_others = state.ended and len(state.members) > 1
    if kept_for_others or time.monotonic() - started >= checkpoints.interval_seconds:
        checkpoints.save(state.steps, state.checkpoint())


class _State:
    """All that the rest of a training depends on."""

    def __init__(
        self,
        members: Sequence[Member],
        batches: Batches,
        held_out: Split | None,
        *,
        joined: bool,
    ) -> None:
        self.members, self.batches, self.held_out = members, batches, held_out
        self.training = members[0].training
        self.device = batches.data.device
        self.stack = Stack([member.model for member in members])
        self.objective = Objective([member.goal for member in members], self.device)
        self._sizes = batch_sizes(len(batches.data), self.training.batch_size, joined=joined)
        self.steps_an_epoch = len(self._sizes)
        self.last_step = self.steps_an_epoch * self.training.epochs
        self._pools = [_pool(member, batches.data) for member in members]
        self._slices = [self.stack.slice(first, end) for first, end in _runs_of_one_rate(members)]
        self.optimizer = optimizers.build(self.training, list(_groups(self._slices, members)))
        self._generators = [torch.Generator().manual_seed(member.training.seed) for member in members]
        #: The generators as they were before they drew the present epoch's orders.
        self._shuffles = [generator.get_state() for generator in self._generators]
        self.epoch = self.step = 0
        #: Mean loss of each step of the epoch so far, `[members, steps]`.
        self._losses = torch.zeros(len(members), self.steps_an_epoch, device=self.device)
        #: Samples of the epoch so far that a member got right, and those of a whole epoch that have a label.
        self._hits = torch.zeros(len(members), device=self.device)
        self._labelled = torch.tensor(
            [batches.data.labelled if pool is None else len(batches.data) for pool in self._pools], device=self.device
        )
        self.curves: list[Curve] = [[] for _ in members]
        self.failures = [""] * len(members)
        #: Weights of the best epochs so far, by member and name.
        self._best: dict[str, torch.Tensor] = {}
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return self.epoch * self.steps_an_epoch + self.step

    @property
    def share(self) -> float:
        """The part of the steps that is done, from 0 to 1."""
        return self.steps / self.last_step

    @property
    def seconds(self) -> float:
        """Seconds in the loop so far, those before the last checkpoint included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def ended(self) -> bool:
        """Whether there is no epoch left to train."""
        curve, patience = self.curves[0], self.training.patience
        given_up = patience is not None and len(curve) - _best_epoch(curve) >= patience
        return self.epoch >= self.training.epochs or given_up or all(self.failures)

    @property
    def summary(self) -> str:
        """Loss and accuracy of the last epoch, if there was one; of several members, of the best."""
        if not self.curves[0]:
            return ""
        loss, accuracy, held_out = max((curve[-1] for curve in self.curves), key=lambda point: point[1])
        words = f" · loss {loss:.3f} · {accuracy:.1%}"
        return words if held_out is None else f"{words} · {held_out:.1%} held out"

    def rows_left(self) -> tuple[torch.Tensor, ...]:
        """The rows `[members, batch]` of the epoch's batches that are still to come."""
        self._shuffles = [generator.get_state() for generator in self._generators]
        samples = len(self.batches.data)
        orders = [_order(samples, pool, each) for pool, each in zip(self._pools, self._generators, strict=True)]
        rows = torch.stack(orders).to(self.batches.home)
        return rows.split(self._sizes, dim=1)[self.step :]

    def descend(self, losses: torch.Tensor) -> None:
        """Take one optimiser step down the losses `[members]`."""
        self.stack.backward(losses.sum(), self._slices)
        self.optimizer.step(schedules.factor(self.training, self.steps, self.last_step))

    def note(self, losses: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count a step, without waiting for the device."""
        self._losses[:, self.step] = losses
        self._hits += (logits.argmax(2) == targets).sum(1)
        self.step += 1

    def end_epoch(self, dtype: torch.dtype) -> None:
        """Sum up the epoch, look at the held-out samples, and stand at the beginning of the next epoch."""
        sizes = torch.tensor(self._sizes, dtype=torch.float32, device=self.device)
        losses = (self._losses @ sizes / len(self.batches.data)).tolist()
        accuracies = (self._hits / self._labelled).tolist()
        held_out = [None] * len(self.members) if self.held_out is None else self._accuracies(self.held_out, dtype)
        finite = self._losses.isfinite().tolist()
        for member, point in enumerate(zip(losses, accuracies, held_out, strict=True)):
            if not all(finite[member]) and not self.failures[member]:
                step = self.epoch * self.steps_an_epoch + finite[member].index(False) + 1
                self.failures[member] = f"the loss is not finite in step {step}: try a smaller learning_rate"
            self.curves[member].append(point)
            if self.training.keep == "best" and _best_epoch(self.curves[member]) == len(self.curves[member]):
                weights = self.members[member].model.state_dict()
                self._best |= {f"{member}/{name}": tensor.clone() for name, tensor in weights.items()}
        self.epoch, self.step = self.epoch + 1, 0
        self._hits.zero_()
        self._shuffles = [generator.get_state() for generator in self._generators]

    def keep_the_best(self) -> None:
        """Put the weights of the best epochs into the models, where they are asked for."""
        for member, each in enumerate(self.members):
            if best := _below(f"{member}/", self._best):
                each.model.load_state_dict(best)

    def results(self, precision: str) -> list[Trained | StageFailed]:
        """Of each member how it was trained, or why it was not."""
        return [
            StageFailed(failure) if failure else Trained(self._record(member, precision), History.of(curve))
            for member, (failure, curve) in enumerate(zip(self.failures, self.curves, strict=True))
        ]

    def checkpoint(self) -> Checkpoint:
        """The state as tensors and facts."""
        tensors = {"losses": self._losses, "hits": self._hits, "random": torch.get_rng_state()}
        for member, each in enumerate(self.members):
            tensors |= {f"model/{member}/{name}": tensor for name, tensor in each.model.state_dict().items()}
            tensors[f"shuffle/{member}"] = self._shuffles[member]
        for name, values in self.optimizer.state.items():
            tensors |= {f"optimizer/{name}/{number}": value for number, value in enumerate(values)}
        tensors |= {f"best/{name}": tensor for name, tensor in self._best.items()}
        if self._hits.is_cuda:
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.device)
        facts = {name: getattr(self, name) for name in ("epoch", "step", "seconds", "curves", "failures")}
        return Checkpoint(tensors, facts)

    def load(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        tensors, facts = checkpoint.tensors, checkpoint.facts
        for name, values in self.optimizer.state.items():
            for number, value in enumerate(values):
                value.copy_(tensors[f"optimizer/{name}/{number}"])
        for member, each in enumerate(self.members):
            each.model.load_state_dict(_below(f"model/{member}/", tensors))
            self._generators[member].set_state(tensors[f"shuffle/{member}"])
        self._losses.copy_(tensors["losses"])
        self._hits.copy_(tensors["hits"])
        self._best = {name: tensor.to(self.device) for name, tensor in _below("best/", tensors).items()}
        torch.set_rng_state(tensors["random"])
        if self._hits.is_cuda:
            torch.cuda.set_rng_state(tensors["random_cuda"], self.device)
        self.epoch, self.step, self.failures = facts["epoch"], facts["step"], facts["failures"]
        self.curves = [[(loss, hit, out) for loss, hit, out in curve] for curve in facts["curves"]]
        self._seconds_before = facts["seconds"]

    @torch.no_grad()
    def _accuracies(self, split: Split, dtype: torch.dtype) -> list[float]:
        """Each member's accuracy on a split."""
        self.stack.train(mode=False)
        hits = torch.zeros(len(self.members), device=self.device)
        # Without gradients, four times as many samples take less room than a step does.
        batch_size = min(BATCH, 4 * self.training.batch_size)
        for start in range(0, len(split), batch_size):
            rows = slice(start, start + batch_size)
            inputs = split.normalised(rows)
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                logits = self.stack(inputs.expand(len(self.members), *inputs.shape))
            hits += (logits.argmax(2) == split.targets[rows]).sum(1)
        return (hits / len(split)).tolist()

    def _record(self, member: int, precision: str) -> TrainingRecord:
        curve = self.curves[member]
        epoch = _best_epoch(curve) if self.training.keep == "best" else len(curve)
        loss, accuracy, held_out = curve[epoch - 1]
        return TrainingRecord(
            parameters=parameters(self.members[member].model),
            trained_parameters=trained_parameters(self.members[member].model),
            epochs=len(curve),
            kept_epoch=epoch,
            steps=self.steps,
            loss=loss,
            train_accuracy=accuracy,
            held_out_accuracy=held_out,
            seconds=self.seconds / len(self.members),
            together=len(self.members),
            precision=precision,
        )


def _order(samples: int, pool: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    """Rows `[samples]` in random order: of all, or of a pool of fewer, over and over."""
    if pool is None:
        return torch.randperm(samples, generator=generator)
    rounds = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(-(-samples // len(pool)))]
    return torch.cat(rounds)[:samples]


def _pool(member: Member, data: Split) -> torch.Tensor | None:
    """The rows that a member can learn from, or None for all: without a teacher, those that have labels."""
    if member.goal.distillation is not None or data.labelled == len(data):
        return None
    return (data.targets >= 0).nonzero().flatten().cpu()


def _runs_of_one_rate(members: Sequence[Member]) -> Iterator[tuple[int, int]]:
    """First and end of each run of members that have the same learning rate."""
    first = 0
    for index in range(1, len(members) + 1):
        if index == len(members) or members[index].training.learning_rate != members[first].training.learning_rate:
            yield first, index
            first = index


def _groups(slices: Sequence[Slice], members: Sequence[Member]) -> Iterator[Group]:
    """What an optimiser changes alike: matrices and kernels decay, norms and biases do not."""
    for first, _, leaves in slices:
        training = members[first].training
        parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for leaf, parameter in zip(leaves, members[0].model.parameters(), strict=True):
            parts[parameter.ndim > 1].append(leaf)
        if not training.weight_decay:
            yield Group(parts[0] + parts[1], training.learning_rate, 0.0)
            continue
        for part, weight_decay in zip(parts, (0.0, training.weight_decay), strict=True):
            if part:
                yield Group(part, training.learning_rate, weight_decay)


def _best_epoch(curve: Curve) -> int:
    """The first epoch, counted from 1, with the highest accuracy on the held-out samples."""
    accuracies = [held_out or 0.0 for _, _, held_out in curve]
    return accuracies.index(max(accuracies)) + 1 if accuracies else 0


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
