"""An average of weights over the steps of a training, exponential, as `torch.optim.swa_utils.AveragedModel` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """The average of tensors that a training changes in place: after the first step they themselves."""

    def __init__(self, decay: float, weights: Mapping[str, torch.Tensor], models: Sequence[nn.Module]) -> None:
        """Average nothing yet.

        Args:
            decay: the share of the average that remains in each step.
            weights: parameters by name; of a stack, `[members, ...]`.
            models: have the buffers, of which those of floating point numbers are averaged too.

        """
        self._decay, self._models = decay, models
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._averages = {name: tensor.clone() for name, tensor in self._tensors.items()}
        self._begun = False

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The average by name; nothing before the first step."""
        return self._averages if self._begun else {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with an average that was saved; nothing: begin."""
        self._begun = bool(state)
        for name, tensor in state.items():
            self._averages[name].copy_(tensor)

    @torch.no_grad()
    def update(self) -> None:
        """Count the tensors as they are after a step."""
        if not self._begun:
            self._begun = True
            for name, tensor in self._tensors.items():
                self._averages[name].copy_(tensor)
            return
        part = 1.0 - self._decay
        torch._foreach_lerp_([self._averages[name] for name in self._weights], list(self._weights.values()), part)
        for name, buffer in self._buffers.items():
            average = self._averages[name]
            # What is infinite on purpose, as a mask, stays so: its difference to itself is no number.
            average.copy_(torch.where(average == buffer, buffer, average.lerp(buffer, part)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the average stand in the tensors' place for a while."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the tensors and their average, one after the other, as each takes room."""
        for name, tensor in self._tensors.items() if self._begun else ():
            before = tensor.clone()
            tensor.copy_(self._averages[name])
            self._averages[name].copy_(before)

    @property
    def _tensors(self) -> dict[str, torch.Tensor]:
        return self._weights | self._buffers

    @property
    def _buffers(self) -> dict[str, torch.Tensor]:
        """Looked up each time, as a model of the user's own may put another tensor in a buffer's place."""
        return {
            f"{member}/{name}": buffer
            for member, model in enumerate(self._models)
            for name, buffer in model.named_buffers()
            if buffer.is_floating_point()
        }
