"""The training loop, for one model or several side by side; it can be left and gone on with at any step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from distill_queue.shared.errors import Cancelled, HandedBack, StageFailed
from distill_queue.shared.results.history import History
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.batches import Batch, Batches, batch_sizes
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation.quality import BATCH
from distill_queue.worker.machine.determinism import determinism
from distill_queue.worker.machine.inputs import Inputs, first
from distill_queue.worker.machine.recorded_step import RecordedStep, can_repeat
from distill_queue.worker.machine.runtime import Report
from distill_queue.worker.models import frozen_names, parameter_names, parameters, trained_parameters
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints
from distill_queue.worker.training.class_weights import class_weights
from distill_queue.worker.training.descent import optimizers, schedules
from distill_queue.worker.training.descent.descent import Descent
from distill_queue.worker.training.descent.optimizers import Group
from distill_queue.worker.training.epochs.curves import Tally, hits_of
from distill_queue.worker.training.epochs.held_out import HeldOutScores, held_out_scores
from distill_queue.worker.training.epochs.orders import Orders
from distill_queue.worker.training.epochs.pools import Pool, pool_of
from distill_queue.worker.training.objective import Goal, Objective
from distill_queue.worker.training.stack import Stack
from distill_queue.worker.training.state import State

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A model that is trained in place, how, and for what; members of one stack differ in seed and learning rate."""

    model: nn.Module
    training: TrainingSpec
    goal: Goal
    #: The classes whose samples it learns from; None for all samples.
    classes: tuple[int, ...] | None = None
    #: The names of all classes, for weights that a training gives some.
    class_names: tuple[str, ...] = ()
    #: Reads the end of an earlier training that this one goes on from; it is then trained alone.
    earlier: Callable[[], Checkpoint] | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """How a member was trained: in sum, and epoch by epoch."""

    record: TrainingRecord
    history: History
    #: The training's end, to go on from later, where the spec says to keep it.
    state: bytes | None = None


def fit(
    members: Sequence[Member],
    batches: Batches,
    held_out: Split | None,
    dtype: torch.dtype,
    report: Report,
    checkpoints: Checkpoints,
    *,
    joined: bool = False,
    recorded: bool = False,
) -> list[Trained | StageFailed]:
    """Train models of one shape in place, side by side, from their last checkpoint if there is one.

    An epoch shows each member as many samples as the split has; a member that learns from some classes, or from labels
    alone, sees the samples of these classes, or the labelled ones, more than once if they are few; so does one that is
    to see each class equally often. With the same kind
    of device, number of threads and version of torch, the weights are the same to the bit however often the training
    was left and gone on with.

    Args:
        members: the models.
        batches: the training samples, with the teacher's logits where a goal is a distillation.
        held_out: samples to choose epochs by, where a training asks for it.
        dtype: of the matrix products.
        report: called after every batch.
        checkpoints: where to write and to find them.
        joined: add a last batch of one sample to the one before it.
        recorded: on a card, record a step and replay it, if the models can be; the weights have the same bits.

    Returns:
        Of each member how it was trained, or that its loss was not finite any more.

    Raises:
        StageStopped: `report` raised it; a checkpoint was written if the stage is still this worker's.

    """
    # Members with one learning rate stand together, so that one slice of the stack is one tensor to the optimiser.
    order = sorted(range(len(members)), key=lambda index: members[index].training.learning_rate)
    trainer = _Trainer([members[index] for index in order], batches, held_out, dtype, joined=joined, recorded=recorded)
    state = trainer.state
    with determinism(members[0].training.seed, batches.data.device):
        _go_on(state, checkpoints, members[0].earlier, dtype)
        while not state.ended:
            started = time.monotonic()
            epoch, so_far = f"epoch {state.epoch + 1}/{state.training.epochs}", state.summary
            with closing(trainer.rest_of_epoch()) as rest:
                for shown in rest:
                    samples = trainer.step(shown)
                    words = f"{epoch} · step {state.step}/{state.steps_an_epoch}{so_far}"
                    try:
                        report(words, samples, state.share)
                    except (HandedBack, Cancelled):
                        checkpoints.save(state.batches, state.checkpoint())
                        raise
                    if checkpoints.due:
                        checkpoints.save(state.batches, state.checkpoint())
            with state.descent.averaged():
                state.end_epoch(trainer.held_out_scores())
            report(told := f"{epoch}{state.summary}", 0, state.share)
            logger.info(told)
            kept_for_others = state.ended and len(members) > 1
            if kept_for_others or time.monotonic() - started >= checkpoints.interval_seconds:
                checkpoints.save(state.batches, state.checkpoint())
        end = state.checkpoint().to_bytes(precision=str(dtype)) if state.training.keep_state else None
        state.finish()
    results = [trainer.result(member, end) for member in range(len(members))]
    return [results[order.index(index)] for index in range(len(members))]


def _go_on(
    state: State, checkpoints: Checkpoints, earlier: Callable[[], Checkpoint] | None, dtype: torch.dtype
) -> None:
    """Stand where the last checkpoint was written, if there is one; one that does not fit is removed with the error.

    Without one, stand at the end of an earlier training, if there is one.

    Raises:
        StageFailed: the earlier training was in another precision.

    """
    if checkpoint := checkpoints.latest():  # As large as the models and more: it goes as this function ends.
        try:
            state.load(checkpoint)
        except Exception:
            checkpoints.clear()  # The next attempt begins anew.
            raise
        logger.info("goes on from step %d of %d", state.steps, state.last_step)
    elif earlier:
        end = earlier()
        before, now = (str(each).removeprefix("torch.") for each in (end.facts["precision"], dtype))
        if before != now:
            raise StageFailed(
                f"the training that this one continues was in {before}, and here it would go on in {now}: say "
                f"'precision: {now}' to start a new schedule from its weights"
            )
        state.load(end)


class _Trainer:
    """What is trained, on what and for what; all that changes is in its `state`."""

    def __init__(
        self,
        members: Sequence[Member],
        batches: Batches,
        held_out: Split | None,
        dtype: torch.dtype,
        *,
        joined: bool,
        recorded: bool,
    ) -> None:
        self._members, self._batches, self._held_out, self._dtype = members, batches, held_out, dtype
        data, models, training = batches.data, [member.model for member in members], members[0].training
        frozen = frozen_names(models[0], training)
        self._stack = Stack(models, frozen)
        slices = [self._stack.slice(first, end) for first, end in _runs_of_one_rate(members)]
        pools = [_pool(member, data) for member in members]
        goals = [_weighted(member, data, pool) for member, pool in zip(members, pools, strict=True)]
        self._objective = Objective(goals, data.device)
        names, parameters = parameter_names(models[0]), list(models[0].named_parameters())
        trained = [place for place, (name, _) in enumerate(parameters) if name not in frozen]
        shapes = [parameters[place][1] for place in trained]
        groups: list[Group] = []
        for member, _, leaves in slices:
            rates = members[member].training.rates(names)
            groups += Group.of(leaves, shapes, [rates[place] for place in trained], training.weight_decay)
        self._sizes = batch_sizes(len(data), training.batch_size, joined=joined)
        self._can_repeat = can_repeat(models)
        # Of several batches that make a step together, each does something else.
        recorded = recorded and self._can_repeat and data.device.type == "cuda" and training.accumulate == 1
        self._recording = RecordedStep(self._sizes[0]) if recorded else None
        #: Whether a batch is put together in the step, so that this is recorded too; and the view that it is seen in.
        self._from_rows = recorded and batches.lie_on_the_device
        self._view = torch.zeros((), dtype=torch.int64, device=data.device)
        optimizer = optimizers.build(training, groups)
        descent = Descent(training, models, self._stack, slices, optimizer, self._sizes, dtype)
        labelled = [data.labelled if pool is None else len(data) for pool in pools]
        self.state = State(
            training,
            models,
            descent,
            Orders([member.training.seed for member in members], len(data), pools),
            Tally(self._sizes, labelled, data.device, skipping=descent.loss_scale is not None),
        )

    def rest_of_epoch(self) -> Generator[Batch | torch.Tensor]:
        """The epoch's batches that are still to come, in the view that the epoch sees; or the rows to make each of."""
        rows = self.state.orders.draw().to(self._batches.home).split(self._sizes, dim=1)[self.state.batch :]
        self._stack.train(mode=True)
        view = self._batches.view(self.state.epoch)
        if self._from_rows:
            self._view.fill_(view)
            return (each for each in rows)
        return self._batches.each(rows, view)

    def step(self, shown: Batch | torch.Tensor) -> int:
        """Learn from a batch, or from some rows: a step, or a part of one; return of how many samples."""
        state = self.state
        state.descent.optimizer.scale(schedules.factor(state.training, state.steps, state.last_step))
        self._objective.go_to(state.steps, state.last_step)
        parts = shown.parts if isinstance(shown, Batch) else (shown,)
        losses, hits = self._descend(*parts) if self._recording is None else self._recording(self._descend, *parts)
        state.note(losses, hits)
        return first(parts[0]).shape[:2].numel()

    def _descend(
        self,
        inputs: Inputs,
        targets: torch.Tensor | None = None,
        teacher_logits: torch.Tensor | None = None,
        partner_targets: torch.Tensor | None = None,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Go down the losses of a batch; return these and the right answers, both `[members]`.

        Where a batch is a step, it depends on tensors alone.

        Args:
            inputs: of a batch, as its other parts; without these, the rows `[members, batch]` to make it of.
            targets: of the batch.
            teacher_logits: of the batch.
            partner_targets: of the batch.
            shares: of the batch.

        """
        self.state.descent.forget()
        if targets is None:
            batch = self._batches(first(inputs), self._view)
        else:
            batch = Batch(inputs, targets, teacher_logits, partner_targets, shares)
        logits = self._logits(batch.inputs)
        losses = self._objective(logits, batch)
        self.state.descent(losses, self.state.batch)
        return losses.detach(), hits_of(logits.detach(), batch.targets)

    @torch.no_grad()
    def held_out_scores(self) -> HeldOutScores:
        """How good each member is on the held-out samples."""
        members, training = len(self._members), self.state.training
        if self._held_out is None:
            return HeldOutScores.none(members)
        self._stack.train(mode=False)
        # Without gradients, four times as many samples take less room than a step does.
        batch_size = min(BATCH, 4 * training.batch_size)
        return held_out_scores(self._logits, self._held_out, members, batch_size, training.best_by)

    def result(self, member: int, end: bytes | None) -> Trained | StageFailed:
        """How a member was trained, with its end where that is kept, or why it was not."""
        state, model = self.state, self._members[member].model
        if state.failures[member]:
            return StageFailed(state.failures[member])
        points, kept = state.curves[member].points, state.kept_epoch(member)
        record = TrainingRecord(
            parameters=parameters(model),
            trained_parameters=trained_parameters(model),
            epochs=len(points),
            kept_epoch=kept,
            steps=state.steps,
            loss=points[kept - 1].loss,
            train_accuracy=points[kept - 1].train_accuracy,
            held_out_accuracy=points[kept - 1].held_out_accuracy,
            best_by=state.curves[member].best_by,
            held_out_measure=state.curves[member].measure_of(kept),
            seconds=state.seconds / len(self._members),
            together=len(self._members),
            precision=str(self._dtype).removeprefix("torch."),
            skipped_steps=state.descent.loss_scale.skipped if state.descent.loss_scale else 0,
        )
        curve = state.curves[member]
        return Trained(record, History.of(points, curve.best_by, curve.measures), end)

    def _logits(self, inputs: Inputs) -> torch.Tensor:
        """Logits `[members, batch, classes]` of inputs `[members, batch, ...]`."""
        # A recorded step casts the weights itself each time; where each is used once, the cache saves nothing.
        cached, enabled = not self._can_repeat, self._dtype != torch.float32
        with torch.autocast(first(inputs).device.type, self._dtype, enabled=enabled, cache_enabled=cached):
            return self._stack(inputs)


def _pool(member: Member, data: Split) -> Pool | None:
    """The rows that a member learns from, or None for all."""
    distilled, by_class = member.goal.distillation is not None, member.training.sampling == "balanced"
    return pool_of(data, member.classes, distilled=distilled, by_class=by_class)


def _weighted(member: Member, data: Split, pool: Pool | None) -> Goal:
    """A member's goal, with the weights of the classes that it learns from."""
    if member.training.class_weights is None:
        return member.goal
    learned = data.targets if pool is None else data.targets[torch.cat(list(pool)).to(data.device)]
    return replace(member.goal, class_weights=class_weights(member.training.class_weights, member.class_names, learned))


def _runs_of_one_rate(members: Sequence[Member]) -> Iterator[tuple[int, int]]:
    """First and end of each run of members that have the same learning rate."""
    first = 0
    for index in range(1, len(members) + 1):
        if index == len(members) or members[index].training.learning_rate != members[first].training.learning_rate:
            yield first, index
            first = index
