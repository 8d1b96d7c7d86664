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
    inputs = prod(data.shape)
    if spec.drops:
        return MlpWithDropout(inputs, spec.hidden, data.classes, spec.dropout, spec.input_dropout)
    return Mlp(inputs, spec.hidden, data.classes)


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


class MlpWithDropout(Mlp):
    """The same with dropout (Srivastava et al. 2014); its step draws random numbers, so it is not recorded."""

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], classes: int, dropout: float, input_dropout: float
    ) -> None:
        super().__init__(inputs, hidden, classes)
        self._dropout, self._input_dropout = dropout, input_dropout

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        features = functional.dropout(inputs.flatten(1), self._input_dropout, self.training)
        for layer in self.layers:
            features = functional.dropout(functional.relu(layer(features)), self._dropout, self.training)
        return self.head(features)
