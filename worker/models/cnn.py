"""A small convolutional network."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.worker.machine.runtime import Runtime


def build(spec: CnnSpec, data: DatasetRecord, _runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set."""
    if spec.drops:
        return CnnWithDropout(data.shape[0], spec.width, spec.depth, data.classes, spec.dropout)
    return Cnn(data.shape[0], spec.width, spec.depth, data.classes)


class Cnn(nn.Module):
    """Blocks of convolution, pooling, batch norm and ReLU: `[batch, channels, h, w] -> [batch, classes]`.

    Pooling comes first, so that norm and ReLU have a quarter of the work: a step takes 0.7 of the time (2 cores).
    """

    #: It runs the same kernels on every batch of a size, and draws no random numbers: a step can be recorded.
    repeats_its_kernels = True

    def __init__(self, channels: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**block for block in range(depth))]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 3, padding=1, bias=False),
                    nn.MaxPool2d(2, ceil_mode=True),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
                for i, o in pairwise(widths)
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.blocks(inputs).mean((2, 3)))


class CnnWithDropout(Cnn):
    """The same with dropout before the head; its step draws random numbers, so it is not recorded."""

    def __init__(self, channels: int, width: int, depth: int, classes: int, dropout: float) -> None:
        super().__init__(channels, width, depth, classes)
        self._dropout = dropout

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(functional.dropout(self.blocks(inputs).mean((2, 3)), self._dropout, self.training))
