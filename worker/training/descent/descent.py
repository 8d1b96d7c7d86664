"""The descent: takes the losses of batches to changed weights, and holds all that its next steps depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.training.descent.accumulation import Accumulation
from distill_queue.worker.training.descent.average import Average
from distill_queue.worker.training.descent.clipping import clip
from distill_queue.worker.training.descent.loss_scale import LossScale
from distill_queue.worker.training.descent.optimizers import Optimizer
from distill_queue.worker.training.stack import Slice, Stack


class Descent:
    """Steps of a stack down its losses, by an optimiser."""

    def __init__(
        self,
        training: TrainingSpec,
        models: Sequence[nn.Module],
        stack: Stack,
        slices: Sequence[Slice],
        optimizer: Optimizer,
        sizes: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        """Take no step yet.

        Args:
            training: how gradients become steps.
            models: the members of the stack.
            stack: what is changed.
            slices: all of the stack's parameters, as the optimiser has them.
            optimizer: what changes them.
            sizes: samples of each batch of an epoch.
            dtype: of the matrix products.

        Raises:
            TypeError: there are several members in float16, each of which needs a loss scale of its own.

        """
        if dtype == torch.float16 and len(models) > 1:
            raise TypeError("in float16, models are trained one by one")
        self.optimizer, self.accumulation = optimizer, Accumulation(sizes, training.accumulate)
        self._stack, self._slices, self._largest_norm = stack, slices, training.clip_norm
        self.loss_scale = LossScale(optimizer.parameters[0].device) if dtype == torch.float16 else None
        decay = training.ema_decay
        self._average = None if decay is None else Average(decay, stack.parameters, models)

    def __call__(self, losses: torch.Tensor, batch: int) -> None:
        """Go down the losses `[members]` of an epoch's batch, counted from 0: a step, or a part of one.

        A step of one batch depends on tensors alone, whatever its number; it can be recorded.
        """
        loss, is_a_part = losses.sum(), self.accumulation.batches > 1
        if is_a_part:
            loss = loss * self.accumulation.part(batch)
        if self.loss_scale is not None:
            loss = loss * self.loss_scale.factor
        self._stack.backward(loss, self._slices)
        if not is_a_part or self.accumulation.ends_step(batch):
            self._step()

    def forget(self) -> None:
        """Forget the gradients that a recording left behind when it failed; a step of several batches has none."""
        if self.accumulation.batches == 1:
            self.optimizer.forget()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the models be what they would be in the end, by the average of their weights if there is one."""
        if self._average is None:
            yield
            return
        with self._average.in_place():
            yield

    def finish(self) -> None:
        """Give the models the average of their weights, if there is one; no step comes after this."""
        if self._average is not None:
            self._average.exchange()

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """What the next steps depend on beside the models, by name."""
        optimizer = self.optimizer
        found = {
            f"optimizer/{name}/{number}": value
            for name, values in optimizer.state.items()
            for number, value in enumerate(values)
        }
        for number, parameter in enumerate(optimizer.parameters):
            if parameter.grad is not None:
                found[f"gradient/{number}"] = parameter.grad
        for part, state in self._parts.items():
            found |= {f"{part}/{name}": tensor for name, tensor in state.items()}
        return found

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Stand where a state was taken, which may have other tensors beside."""
        optimizer = self.optimizer
        for name, values in optimizer.state.items():
            for number, value in enumerate(values):
                value.copy_(state[f"optimizer/{name}/{number}"])
        for number, parameter in enumerate(optimizer.parameters):
            gradient = state.get(f"gradient/{number}")
            parameter.grad = None if gradient is None else torch.empty_like(parameter).copy_(gradient)
        if self.loss_scale is not None:
            for name, tensor in self.loss_scale.state.items():
                tensor.copy_(state[f"loss_scale/{name}"])
        if self._average is not None:
            prefix = "average/"
            self._average.load({n.removeprefix(prefix): each for n, each in state.items() if n.startswith(prefix)})

    @property
    def _parts(self) -> dict[str, dict[str, torch.Tensor]]:
        average = {} if self._average is None else self._average.state
        return {"average": average, "loss_scale": {} if self.loss_scale is None else self.loss_scale.state}

    def _step(self) -> None:
        broken = None if self.loss_scale is None else self.loss_scale.unscale(self.optimizer.gradients)
        if self._largest_norm is not None:
            self._clip(self._largest_norm)
        self.optimizer.descend(broken)
        if self.loss_scale is not None:
            self.loss_scale.update()
        if self._average is not None:
            self._average.update()

    def _clip(self, largest: float) -> None:
        for _, _, leaves in self._slices:
            if self._stack.is_single:
                nn.utils.clip_grad_norm_(leaves, largest)
            else:
                clip([leaf.grad for leaf in leaves if leaf.grad is not None], largest)
