"""The training loop, on tensors that lie whole in the device's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from shared.errors import StageFailed
from shared.records import TrainingRecord
from shared.spec import TrainingSpec
from worker.data import Split
from worker.models import parameters

#: Steps between two looks at the clock by `report`.
REPORT_STEPS = 50

#: The loss of a batch from its logits `[batch, classes]` and its rows `[batch]` in the data set.
Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Report(Protocol):
    """Tells whoever watches how far a stage is; may raise to stop it."""

    def __call__(self, progress: str) -> None:
        """Tell it."""


def fit(
    model: nn.Module,
    data: Split,
    objective: Objective,
    training: TrainingSpec,
    dtype: torch.dtype,
    report: Report,
) -> TrainingRecord:
    """Train a model in place.

    Raises:
        StageFailed: the loss is not finite any more.

    """
    device = data.inputs.device
    batches = -(-len(data) // training.batch_size)
    optimizer = _optimizer(model, training)
    schedule = _schedule(optimizer, training, batches * training.epochs)
    shuffle = torch.Generator().manual_seed(training.seed)
    started = time.monotonic()
    loss = accuracy = 0.0
    model.train()
    for epoch in range(1, training.epochs + 1):
        total = torch.zeros(2, device=device)
        order = torch.randperm(len(data), generator=shuffle).to(device)
        for step, rows in enumerate(order.split(training.batch_size)):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(data.batch(rows))
            batch_loss = objective(logits, rows)
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            schedule.step()
            hits = (logits.detach().argmax(1) == data.targets[rows]).sum()
            total += torch.stack((batch_loss.detach() * len(rows), hits))
            if step % REPORT_STEPS == REPORT_STEPS - 1:
                report(f"epoch {epoch}/{training.epochs} · step {step + 1}/{batches}")
        loss, accuracy = (total / len(data)).tolist()
        if not loss < float("inf"):
            raise StageFailed(f"the loss became {loss} in epoch {epoch}: try a smaller learning_rate")
        report(f"epoch {epoch}/{training.epochs} · loss {loss:.3f} · {accuracy:.1%}")
    return TrainingRecord(
        parameters=parameters(model),
        epochs=training.epochs,
        steps=batches * training.epochs,
        loss=loss,
        train_accuracy=accuracy,
        seconds=time.monotonic() - started,
        precision=str(dtype).removeprefix("torch."),
    )


def _optimizer(model: nn.Module, training: TrainingSpec) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), training.learning_rate, fused=True)
    return torch.optim.SGD(model.parameters(), training.learning_rate, momentum=0.9, nesterov=True, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, training: TrainingSpec, steps: int) -> LRScheduler:
    if training.schedule == "constant":
        return LambdaLR(optimizer, lambda _step: 1.0)
    return OneCycleLR(optimizer, training.learning_rate, total_steps=steps + 1)
