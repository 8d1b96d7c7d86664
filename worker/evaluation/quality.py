"""Quality: a model's logits for the samples of a split, and scores of these."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from distill_queue.shared.results.class_scores import ClassScores, confusion_of
from distill_queue.shared.results.predictions import Predictions
from distill_queue.worker.data.split import Split
from distill_queue.worker.losses import cross_entropy
from distill_queue.worker.machine.inputs import through
from distill_queue.worker.machine.runtime import Report

#: Samples in one forward pass without training.
BATCH = 1_024


def logits_of(model: nn.Module, data: Split, report: Report, batch_size: int = BATCH) -> torch.Tensor:
    """Logits of every sample, `[samples, classes]`, float32, on the device of the data."""
    return torch.cat(list(logit_batches(model, data, report, batch_size)))


@torch.inference_mode()
def logit_batches(model: nn.Module, data: Split, report: Report, batch_size: int = BATCH) -> Iterator[torch.Tensor]:
    """Logits `[rows, classes]`, float32, of each batch in the data's order; in eval mode."""
    model.eval()
    for start in range(0, len(data), batch_size):
        logits: torch.Tensor = through(model, data.normalised(slice(start, min(start + batch_size, len(data)))))
        yield logits.float()
        done = start + len(logits)
        report(f"{done:,} of {len(data):,} samples", len(logits), done / len(data))


def predictions(logits: torch.Tensor) -> Predictions:
    """The class and the confidence that logits `[samples, classes]` give each sample."""
    smallest = np.min_scalar_type(logits.shape[1] - 1)
    return Predictions(logits.argmax(1).cpu().numpy().astype(smallest), logits.softmax(1).amax(1).cpu().numpy())


def class_scores(logits: torch.Tensor, targets: torch.Tensor) -> ClassScores:
    """How well the largest of `logits` `[samples, classes]` tells each class; `targets` `[samples]`."""
    own, classes = targets.cpu().numpy(), logits.shape[1]
    return ClassScores.of(confusion_of(own, logits.argmax(1).cpu().numpy(), classes))


def accuracy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of the samples on which the largest of `logits` `[samples, classes]` is the target."""
    return (logits.argmax(1) == targets).float().mean().item()


def agreement(logits: torch.Tensor, others: torch.Tensor) -> float:
    """Share of the samples for which two models' logits `[samples, classes]` choose the same class."""
    return (logits.argmax(1) == others.argmax(1)).float().mean().item()


def negative_log_likelihood(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean negative log-likelihood of the targets, in nats."""
    return cross_entropy(logits, targets).item()
