"""The training loop, on tensors that lie whole in the device's memory; it can be left and gone on with at any step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from shared.errors import Cancelled, HandedBack, StageFailed
from shared.records import TrainingRecord
from shared.spec import TrainingSpec
from worker.checkpoints import Checkpoint, Checkpoints
from worker.data import Split
from worker.models import parameters
from worker.runtime import Report

logger = logging.getLogger(__name__)

#: The loss of a batch from its logits `[batch, classes]` and its rows `[batch]` in the data set.
Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def fit(
    model: nn.Module,
    data: Split,
    objective: Objective,
    training: TrainingSpec,
    dtype: torch.dtype,
    report: Report,
    checkpoints: Checkpoints,
) -> TrainingRecord:
    """Train a model in place, from its last checkpoint if there is one.

    With the same kind of device, number of threads and version of torch, the weights are the same to the bit however
    often the training was left and gone on with.

    Raises:
        StageFailed: the loss is not finite any more.
        StageStopped: `report` raised it; a checkpoint was written if the stage is still this worker's.

    """
    state = _State(model, training, data)
    with _determinism(training.seed, data.inputs.device):
        if checkpoint := checkpoints.latest():
            state.load(checkpoint)
            logger.info("goes on from step %d of %d", state.steps, state.batches * training.epochs)
        model.train()
        while state.epoch < training.epochs:
            _epoch(state, objective, dtype, report, checkpoints)
    return TrainingRecord(
        parameters=parameters(model),
        epochs=training.epochs,
        steps=state.batches * training.epochs,
        loss=state.loss,
        train_accuracy=state.accuracy,
        seconds=state.seconds,
        precision=str(dtype).removeprefix("torch."),
    )


def _epoch(state: _State, objective: Objective, dtype: torch.dtype, report: Report, checkpoints: Checkpoints) -> None:
    """Train from the state's step to the end of its epoch."""
    data, of_epochs = state.data, f"epoch {state.epoch + 1}/{state.training.epochs}"
    started = time.monotonic()
    for rows in state.batches_left():
        with torch.autocast(rows.device.type, dtype, enabled=dtype != torch.float32):
            logits = state.model(data.batch(rows))
        loss = objective(logits, rows)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        hits = (logits.detach().argmax(1) == data.targets[rows]).sum()
        state.total += torch.stack((loss.detach() * len(rows), hits))
        state.step += 1
        try:
            report(f"{of_epochs} · step {state.step}/{state.batches}")
        except (HandedBack, Cancelled):
            checkpoints.save(state.steps, state.checkpoint())
            raise
        if checkpoints.due:
            checkpoints.save(state.steps, state.checkpoint())
    state.end_epoch()
    report(f"{of_epochs} · loss {state.loss:.3f} · {state.accuracy:.1%}")
    if time.monotonic() - started >= checkpoints.every_seconds:
        checkpoints.save(state.steps, state.checkpoint())


class _State:
    """All that the rest of a training depends on."""

    def __init__(self, model: nn.Module, training: TrainingSpec, data: Split) -> None:
        self.model, self.training, self.data = model, training, data
        self.batches = -(-len(data) // training.batch_size)
        self.optimizer = _optimizer(model, training)
        self.schedule = _schedule(self.optimizer, training, self.batches * training.epochs)
        self.generator = torch.Generator().manual_seed(training.seed)
        #: The generator as it was before it drew the present epoch's order.
        self.shuffle = self.generator.get_state()
        self.epoch = self.step = 0
        #: Sums over the epoch's samples so far: loss and hits.
        self.total = torch.zeros(2, device=data.inputs.device)
        self.loss = self.accuracy = 0.0
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return self.epoch * self.batches + self.step

    @property
    def seconds(self) -> float:
        """Seconds in the loop so far, those before the last checkpoint included."""
        return self._seconds_before + time.monotonic() - self._started

    def batches_left(self) -> tuple[torch.Tensor, ...]:
        """The rows of the epoch's batches that are still to come."""
        self.shuffle = self.generator.get_state()
        order = torch.randperm(len(self.data), generator=self.generator)
        return order.to(self.data.inputs.device).split(self.training.batch_size)[self.step :]

    def end_epoch(self) -> None:
        """Sum up the epoch and stand at the beginning of the next.

        Raises:
            StageFailed: the loss is not finite.

        """
        self.loss, self.accuracy = (self.total / len(self.data)).tolist()
        self.epoch, self.step = self.epoch + 1, 0
        self.total.zero_()
        self.shuffle = self.generator.get_state()
        if not self.loss < float("inf"):
            raise StageFailed(f"the loss became {self.loss} in epoch {self.epoch}: try a smaller learning_rate")

    def checkpoint(self) -> Checkpoint:
        """The state as tensors and facts."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, values in optimizer["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items() if value is not None}
        tensors |= {"shuffle": self.shuffle, "total": self.total, "random": torch.get_rng_state()}
        if self.total.is_cuda:
            tensors["random_cuda"] = torch.cuda.get_rng_state(self.total.device)
        facts = {name: getattr(self, name) for name in ("epoch", "step", "loss", "accuracy", "seconds")}
        schedule = {name: value for name, value in self.schedule.state_dict().items() if not callable(value)}
        return Checkpoint(tensors, facts | {"groups": optimizer["param_groups"], "schedule": schedule})

    def load(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        tensors, facts = checkpoint.tensors, checkpoint.facts
        self.model.load_state_dict(_below("model/", tensors))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _below("optimizer/", tensors).items():
            index, _, field = name.partition("/")
            states.setdefault(int(index), {})[field] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": facts["groups"]})
        self.schedule.load_state_dict(facts["schedule"])
        self.generator.set_state(tensors["shuffle"])
        self.total = tensors["total"].to(self.total.device)
        torch.set_rng_state(tensors["random"])
        if self.total.is_cuda:
            torch.cuda.set_rng_state(tensors["random_cuda"], self.total.device)
        self.epoch, self.step = facts["epoch"], facts["step"]
        self.loss, self.accuracy = facts["loss"], facts["accuracy"]
        self._seconds_before = facts["seconds"]


@contextmanager
def _determinism(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from a seed, and algorithms that give the same bits every time."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # Costs time, and nothing here reads such memory.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer(model: nn.Module, training: TrainingSpec) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), training.learning_rate, fused=True)
    return torch.optim.SGD(model.parameters(), training.learning_rate, momentum=0.9, nesterov=True, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, training: TrainingSpec, steps: int) -> LRScheduler:
    if training.schedule == "constant":
        return LambdaLR(optimizer, lambda _step: 1.0)
    return OneCycleLR(optimizer, training.learning_rate, total_steps=steps + 1)
