"""Own code: models and losses of the user's, called more than once before they are trusted to do the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.spec.schedule import ends_of
from distill_queue.worker import models
from distill_queue.worker.losses import UNLABELLED
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.generators import seed_generators
from distill_queue.worker.machine.inputs import Inputs, through
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.training.marks import Mark, difference, mark, state_of

#: What a loss of the user's own is, as `distill_queue.worker.training.objective.SoftLoss`.
Loss = Callable[..., torch.Tensor]


def build_again(
    model: nn.Module,
    spec: ModelSpec,
    data: DatasetRecord,
    runtime: Runtime,
    seed: int | None,
    inputs: Inputs,
    prepare: Callable[[nn.Module], object] = lambda _: None,
) -> nn.Module:
    """A second model that is like a first one, whose weights are untrained, in every bit.

    Args:
        model: the first one.
        spec: of both.
        data: what they are for.
        runtime: where they are.
        seed: of their weights.
        inputs: samples `[samples, ...]`.
        prepare: what was done to the first one after it was built.

    Raises:
        InvalidSpec: it is not, or its logits of `inputs` `[samples, ...]` are not those of a moment ago.

    """
    again = models.build(spec, data, runtime, seed)
    prepare(again)
    require_steady(again, spec.name, inputs)  # First, as the first model has seen samples in eval mode before.
    if other := difference(state_of(model), state_of(again)):
        raise InvalidSpec(
            f"{spec.name}: gives other weights each time that it is called with one seed ({other}): draw them from "
            "torch's generator, or from one with a seed of its own, and use neither the time nor earlier calls"
        )
    if shared := _shared(model, again):
        raise InvalidSpec(
            f"{spec.name}: returns the layers of an earlier call again ({shared}), which may have been trained by now: "
            "make new ones in each call"
        )
    return again


def require_steady(model: nn.Module, name: str, inputs: Inputs) -> None:
    """See that a model in eval mode gives some inputs `[samples, ...]` the same logits twice, and stays as it is.

    Raises:
        InvalidSpec: it does not.

    """
    before = state_of(model)
    with plugins.called(name):
        first, second = (mark(_logits(model, inputs)) for _ in range(2))
    if not first.same(second):
        raise InvalidSpec(
            f"{name}: gives the same samples other logits each time, in eval mode too: draw random numbers only where "
            "self.training is true"
        )
    if other := difference(before, state_of(model)):
        raise InvalidSpec(
            f"{name}: is changed by samples that go through it in eval mode ({other}): change buffers only where "
            "self.training is true"
        )


def require_whole(
    trained: nn.Module, spec: ModelSpec, data: DatasetRecord, runtime: Runtime, seed: int, inputs: Inputs
) -> None:
    """See that a model is what its weights and buffers say: another one that is given these gives the same logits.

    Raises:
        InvalidSpec: it has more to it, which would be lost as it is saved.

    """
    other = models.build(spec, data, runtime, seed ^ 1)
    try:
        other.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        problem = str(error).partition("\n")[2].strip().replace("\n\t", " ")
        raise InvalidSpec(f"{spec.name}: has other layers with another seed: {problem}") from error
    with plugins.called(spec.name):
        whole = mark(_logits(trained, inputs)).same(mark(_logits(other, inputs)))
    if not whole:
        raise InvalidSpec(
            f"{spec.name}: there is more to it than its state_dict holds, which is all that is saved: another model "
            "with the same weights gives other logits: register tensors with register_buffer, not persistent=False"
        )


def require_untouched(model: nn.Module, before: dict[str, Mark], name: str) -> None:
    """See that a model is as it was before others that were built like it were tried.

    Raises:
        InvalidSpec: it is not.

    """
    if other := difference(before, state_of(model)):
        raise InvalidSpec(f"{name}: returns parts of an earlier call again ({other}): make new ones in each call")


def soft_loss(distillation: DistillationSpec, data: DatasetRecord, runtime: Runtime, *, stacked: bool) -> Loss:
    """The user's loss, tried on two samples as it will be called: alone, or as part of a stack.

    Raises:
        InvalidSpec: it cannot be used.

    """
    name = distillation.loss
    function = partial(plugins.load(name, runtime.plugins), **as_arguments(distillation.options))
    logits = torch.linspace(-1.0, 1.0, 2 * data.classes, device=runtime.device).view(2, -1).requires_grad_()
    beginning, end = ends_of(distillation.temperature)
    # One that changes is a tensor, as in a stack.
    temperature = beginning if beginning == end else torch.tensor(beginning, device=runtime.device)
    unlabelled = data.labelled_samples < data.train_samples
    targets = torch.tensor([0, UNLABELLED if unlabelled else 1], device=runtime.device)

    def loss(student: torch.Tensor, teacher: torch.Tensor, temperature: Any) -> torch.Tensor:
        result: torch.Tensor = function(student, teacher, targets, temperature=temperature)
        return result

    def value_and_gradient() -> list[torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            seed_generators(0)
            value = loss(logits, logits.detach() / 2, temperature)
        if not isinstance(value, torch.Tensor) or value.shape != ():
            raise InvalidSpec(f"{name}: must return a tensor without dimensions, the mean over the batch")
        if not value.requires_grad:
            raise InvalidSpec(f"{name}: what it returns has no gradient: it would teach nothing")
        return [value.detach(), *torch.autograd.grad(value, [logits])]

    with plugins.called(name):
        require_torch_only(name, value_and_gradient)
        first, second = value_and_gradient(), value_and_gradient()
    if not all(mark(one).same(mark(other)) for one, other in zip(first, second, strict=True)):
        raise InvalidSpec(
            f"{name}: gives the same logits another value or gradient each time: draw random numbers from torch's "
            "generator, and use neither the time nor earlier calls"
        )
    if stacked:
        temperatures = torch.full((1,), beginning, device=runtime.device)
        with plugins.called(name):
            torch.func.vmap(loss)(logits[None], logits.detach()[None] / 2, temperatures)
    return function


def require_torch_only(name: str, step: Callable[[], object]) -> None:
    """See that a step through the user's code draws nothing from the generators of Python and NumPy.

    They are not seeded while a model is trained, and no checkpoint holds them.

    Raises:
        InvalidSpec: it does.

    """
    for _ in range(2):  # Once may have been another thread.
        before = _unseeded()
        step()
        if _unseeded() == before:
            return
    raise InvalidSpec(f"{name}: draws random numbers from Python's or NumPy's generator in training: draw from torch's")


@torch.no_grad()
def _logits(model: nn.Module, inputs: Inputs) -> torch.Tensor:
    """Logits in eval mode, as for soft labels and evaluations."""
    logits: torch.Tensor = through(model.eval(), inputs)
    return logits


def _shared(one: nn.Module, other: nn.Module) -> str:
    """The name of a trained parameter that two models have in common; nothing where there is none."""
    own = {parameter.data_ptr() for parameter in one.parameters() if parameter.requires_grad and parameter.numel()}
    return next((name for name, parameter in other.named_parameters() if parameter.data_ptr() in own), "")


def _unseeded() -> tuple[object, ...]:
    """The states of the generators that are seeded for calls of a factory only."""
    of_numpy = np.random.get_state(legacy=False)["state"]
    return random.getstate(), of_numpy["pos"], of_numpy["key"].tobytes()
