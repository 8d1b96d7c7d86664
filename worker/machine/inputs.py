"""Inputs: samples as models take them: one tensor, or several by name, which a model takes as keyword arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Inputs = torch.Tensor | dict[str, torch.Tensor]


def each(inputs: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """The same with each tensor changed."""
    if isinstance(inputs, torch.Tensor):
        return change(inputs)
    return {name: change(tensor) for name, tensor in inputs.items()}


def tensors(inputs: Inputs) -> list[torch.Tensor]:
    """The tensors, at least one, all of the same samples on one device."""
    return [inputs] if isinstance(inputs, torch.Tensor) else list(inputs.values())


def first(inputs: Inputs) -> torch.Tensor:
    """One of the tensors, for what all have in common: the number of samples, and the device."""
    return tensors(inputs)[0]


def through(model: nn.Module, inputs: Inputs) -> Any:
    """What a model returns for inputs."""
    return model(inputs) if isinstance(inputs, torch.Tensor) else model(**inputs)
