"""Stacks: models of one shape as one model, so that many small matrix products become few large ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

#: First member, end, and the leaves of their part of each parameter, in the parameters' order.
Slice = tuple[int, int, list[torch.Tensor]]


class Stack:
    """One model as it is, or several whose parameters are slices of stacked tensors `[members, ...]`.

    The members stay whole models: their parameters are views, which change as the stack is trained.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self._single = models[0] if len(models) == 1 else None
        if self._single is not None:
            self.parameters: dict[str, torch.Tensor] = dict(self._single.named_parameters())
            return
        self.parameters, self._buffers = stack_module_state(list(models))
        for index, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.data = self.parameters[name].data[index]
            for name, buffer in model.named_buffers():
                buffer.data = self._buffers[name].data[index]
        self._shape = copy.deepcopy(models[0]).to("meta")

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits `[members, batch, classes]` of inputs `[members, batch, ...]`, each member its own."""
        if self._single is not None:
            logits: torch.Tensor = self._single(inputs[0])
            return logits[None]

        def forward(
            parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], batch: torch.Tensor
        ) -> torch.Tensor:
            result: torch.Tensor = functional_call(self._shape, (parameters, buffers), (batch,))
            return result

        return vmap(forward)(self.parameters, self._buffers, inputs)

    def train(self, *, mode: bool) -> None:
        """Put all members into training mode, or into evaluation mode."""
        (self._single or self._shape).train(mode)

    def slice(self, first: int, end: int) -> Slice:
        """What an optimiser changes for the members from `first` to before `end`."""
        if self._single is not None:
            return first, end, list(self.parameters.values())
        return first, end, [parameter.data[first:end] for parameter in self.parameters.values()]

    def backward(self, loss: torch.Tensor, slices: Sequence[Slice]) -> None:
        """Give the slices of the stack their gradients of a loss."""
        if self._single is not None:
            loss.backward()
            return
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        for first, end, leaves in slices:
            for leaf, gradient in zip(leaves, gradients, strict=True):
                # Fused optimisers read memory in order, and take a transposed gradient for another one (torch 2.15).
                leaf.grad = gradient[first:end].contiguous()
