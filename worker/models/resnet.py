"""Residual networks for small images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.worker.machine.runtime import Runtime


def build(spec: ResnetSpec, data: DatasetRecord, _runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set."""
    return Resnet(data.shape[0], int(spec.name.removeprefix("resnet")), data.classes)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2015, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = outputs - inputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Features of `outputs` channels."""
        features = functional.relu(self.norm1(self.conv1(inputs)))
        features = self.norm2(self.conv2(features))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        return functional.relu(features + functional.pad(shortcut, (0, 0, 0, 0, 0, self.padding)))


class Resnet(nn.Module):
    """The residual network of `6n + 2` layers for small images (He et al. 2015, section 4.2)."""

    #: It runs the same kernels on every batch of a size, and draws no random numbers: a step can be recorded.
    repeats_its_kernels = True

    def __init__(self, channels: int, layers: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks = []
        for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
            blocks.append(ResidualBlock(inputs, outputs, outputs // inputs))
            blocks += [ResidualBlock(outputs, outputs, 1) for _ in range((layers - 2) // 6 - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.blocks(self.stem(inputs)).mean((2, 3)))
