"""Fully connected layers."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.worker.machine.runtime import Runtime


def build(spec: MlpSpec, data: DatasetRecord, _runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set."""
    return Mlp(prod(data.shape), spec.hidden, data.classes)


class Mlp(nn.Module):
    """Fully connected layers with ReLU: `[batch, ...] -> [batch, classes]`."""

    #: It runs the same kernels on every batch of a size, and draws no random numbers: a step can be recorded.
    repeats_its_kernels = True

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        features = inputs.flatten(1)
        for layer in self.layers:
            features = functional.relu(layer(features))
        return self.head(features)
