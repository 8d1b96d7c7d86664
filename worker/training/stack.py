"""Stacks: MLPs of one shape as one model, so that many small matrix products become few large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from distill_queue.worker.machine.inputs import Inputs, each, through
from distill_queue.worker.models import Mlp, frozen_modules

#: First member, end, and the leaves of their part of each parameter, in the parameters' order.
Slice = tuple[int, int, list[torch.Tensor]]


class Stack:
    """One model as it is; or several MLPs, whose parameters are slices of stacked tensors `[members, ...]`.

    The members stay whole models: their parameters are views, which change as the stack is trained.
    """

    def __init__(self, models: Sequence[nn.Module], frozen: frozenset[str] = frozenset()) -> None:
        """Take one model, or several of one shape.

        Args:
            models: the members.
            frozen: torch's names of parameters that stay as they are, and take no gradient already.

        Raises:
            TypeError: several are no MLPs.

        """
        self._single = models[0] if len(models) == 1 else None
        self._frozen = frozen
        self._kept = frozen_modules(models[0], frozen) if frozen else []
        if self._single is not None:
            self.parameters: dict[str, torch.Tensor] = dict(self._single.named_parameters())
            return
        if not all(isinstance(model, Mlp) for model in models):
            raise TypeError("only MLPs are stacked")
        together = zip(*(model.named_parameters() for model in models), strict=True)
        self.parameters = {}
        for members in together:
            stacked = torch.stack([parameter.detach() for _, parameter in members])
            for (_, parameter), view in zip(members, stacked, strict=True):
                parameter.data = view
            self.parameters[members[0][0]] = stacked.requires_grad_(members[0][0] not in frozen)

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Logits `[members, batch, classes]` of inputs `[members, batch, ...]`, each member its own."""
        if self._single is not None:
            logits: torch.Tensor = through(self._single, each(inputs, lambda samples: samples[0]))
            return logits[None]
        if not isinstance(inputs, torch.Tensor):
            raise TypeError("MLPs take one tensor")
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        features = inputs.flatten(2).to(dtype)
        *hidden, head = self._layers()
        for weight, bias in hidden:
            features = _linear(features, weight, bias).relu()
        return _linear(features, *head)

    @property
    def is_single(self) -> bool:
        """Whether it is one model as it is."""
        return self._single is not None

    @property
    def _trained(self) -> list[torch.Tensor]:
        """All parameters but the frozen ones."""
        return [parameter for name, parameter in self.parameters.items() if name not in self._frozen]

    def _layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weights `[members, outputs, inputs]` and biases `[members, outputs]`, layer by layer."""
        tensors = list(self.parameters.values())
        return list(zip(tensors[::2], tensors[1::2], strict=True))

    def train(self, *, mode: bool) -> None:
        """Put a model into training mode, or into evaluation mode; for MLPs they are the same.

        What is frozen as a whole stays in evaluation mode: a batch norm's statistics stay as they are, too.
        """
        if self._single is not None:
            self._single.train(mode)
            for module in self._kept:
                module.training = False

    def slice(self, first: int, end: int) -> Slice:
        """What an optimiser changes for the members from `first` to before `end`: all but what is frozen."""
        if self._single is not None:
            return first, end, self._trained
        return first, end, [parameter.data[first:end] for parameter in self._trained]

    def backward(self, loss: torch.Tensor, slices: Sequence[Slice]) -> None:
        """Add the gradients of a loss to those that the slices of the stack have."""
        if self._single is not None:
            loss.backward()
            return
        gradients = torch.autograd.grad(loss, self._trained)
        for first, end, leaves in slices:
            for leaf, gradient in zip(leaves, gradients, strict=True):
                # Fused optimisers read memory in order, and take a transposed gradient for another one (torch 2.15).
                part = gradient[first:end].contiguous()
                leaf.grad = part if leaf.grad is None else leaf.grad.add_(part)


class _Linear(torch.autograd.Function):
    """A linear layer for each member, in the type of its inputs.

    torch's own gradient of a batched product is a transposed one, which has to be copied into order twice: with this
    one a pass forward and back through 16 MLPs takes a third of the time (784-128-10, batch 64, 1 core).
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        weight = weight.to(inputs.dtype)
        ctx.save_for_backward(inputs, weight)
        return torch.baddbmm(bias.to(inputs.dtype)[:, None], inputs, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        of_weight = torch.bmm(gradient.mT, inputs).float() if ctx.needs_input_grad[1] else None
        of_bias = gradient.sum(1, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        return of_inputs, of_weight, of_bias


def _linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`[members, batch, outputs]` of inputs `[members, batch, inputs]`."""
    outputs: torch.Tensor = _Linear.apply(inputs, weight, bias)
    return outputs
