"""A probe: what a model's operations do on this device, found out on a few samples before a training begins."""

from __future__ import annotations

import copy
import ctypes
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import InvalidSpec, StageFailed
from distill_queue.shared.line import first_line
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.worker.data.batches import batch_sizes
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.determinism import determinism
from distill_queue.worker.machine.inputs import Inputs, each, first
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import frozen_names
from distill_queue.worker.training import own_code
from distill_queue.worker.training.gradients import far_from
from distill_queue.worker.training.marks import Mark, difference, mark, state_of
from distill_queue.worker.training.stack import Stack

#: Samples that a probe takes through a model.
ROWS = 16
#: Bytes that unwritten memory is filled with, to recognise it: as bfloat16 and as float32, 3e38 and 0.7; as float16, no
#: number and 1.8.
_SCRIBBLES = (0x7F, 0x3F)
#: `M_PERTURB` of glibc's mallopt: fill what malloc gives out with a byte, XOR 255; 0: leave it.
_PERTURB = -6

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """How models can be trained here."""

    #: Of the matrix products.
    dtype: torch.dtype
    #: Whether an epoch's last batch, of one sample, is to be joined to the one before it.
    joined: bool = False
    #: Why the matrix products are not in the bfloat16 or float16 that `auto` would take here.
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with gradients in a rounded type."""

    what: str
    #: Whether it is wrong for certain: not finite, or another one each time. Else it is far from float32's.
    certain: bool


#: What a step computes, by what it is in words.
Step = dict[str, torch.Tensor]


class Probe:
    """Models that may be spoilt, and a few real samples to take through them."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        inputs: Inputs,
        seed: int,
        like: nn.Module | None = None,
        frozen: frozenset[str] = frozenset(),
    ) -> None:
        """Take models that may be spoilt.

        Args:
            models: untrained ones of one shape.
            inputs: samples `[rows, ...]` as they take them.
            seed: for dropout.
            frozen: torch's names of their frozen parameters.
            like: where there is one model, another one in the same state, which is kept as it is; it saves a copy.

        """
        self._models, self._seed, self._device = models, seed, first(inputs).device
        self._stack = Stack(models, frozen)
        self._inputs = each(inputs, lambda samples: samples.expand(len(models), *samples.shape))
        own = {tensor.data_ptr() for tensor in self._tensors}
        state = self._tensors if like is None else chain(like.parameters(), like.buffers())
        self._state = [each.detach().clone() if each.data_ptr() in own else each.detach() for each in state]

    @property
    def _tensors(self) -> Iterator[torch.Tensor]:
        """All that a step may change."""
        yield from self._stack.parameters.values()
        yield from chain.from_iterable(model.buffers() for model in self._models)

    def step(self, dtype: torch.dtype, *, training: bool = True, rows: int | None = None) -> Step:
        """Logits, gradients and buffers after a pass forward and back, always from the state that the models had."""
        with torch.no_grad():
            for tensor, before in zip(self._tensors, self._state, strict=True):
                tensor.copy_(before)
        self._set_mode(training=training)
        inputs = each(
            self._inputs, lambda samples: samples[:, :rows].to(dtype if samples.is_floating_point() else samples.dtype)
        )
        trained = {name: tensor for name, tensor in self._stack.parameters.items() if tensor.requires_grad}
        with determinism(self._seed, self._device, fill=True):
            with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
                logits = self._stack(inputs)
            # As good as a loss: each logit's gradient is another one, and there need be no labels.
            weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(self._device)
            loss = (logits.float() * weights).sum()
            gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        found = {"what it returns": logits.detach()}
        for name, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                found[f"the gradient of {name}"] = gradient
        return found | {name: buffer.clone() for name, buffer in self._named_buffers().items()}

    def fault_of(self, dtype: torch.dtype) -> Fault | None:
        """What is wrong with bfloat16 or float16 on this device, and right in float32; None where nothing is."""
        try:
            return self._fault_of(dtype)
        except RuntimeError as error:
            if dtype != torch.float16 or memory.is_short(error):
                raise
            return Fault(first_line(error), certain=True)  # The device has no such kernel.

    def _fault_of(self, dtype: torch.dtype) -> Fault | None:
        (first, broken), (second, broken_too) = (self._scribbled_step(byte, dtype) for byte in _SCRIBBLES)
        if broken or broken_too:
            exact = self.step(torch.float32)
            if any(map(_is_gradient, _not_finite(exact))):
                return None
            for name, places in chain(broken.items(), broken_too.items()):
                # What is infinite on purpose, as a mask, is so in float32 too.
                if name in exact and (exact[name].isfinite() & places).any():
                    # A smaller loss scale may help gradients in float16.
                    return Fault(f"{name} is not finite", certain=dtype != torch.float16 or not _is_gradient(name))
            del exact
        if other := difference(first, second):
            if self.irreproducible():
                return None
            return Fault(f"{other} differs from one time to the next", certain=True)
        # On the CPU, as two models' gradients beside the model are more than a training holds.
        exact = {
            name: tensor.cpu()
            for name, tensor in self.step(torch.float32, training=False).items()
            if _is_gradient(name)
        }
        far = far_from(exact, self.step(dtype, training=False))
        return Fault(far, certain=False) if far else None

    def irreproducible(self) -> str:
        """What differs between two equal steps in float32; nothing where they are the same."""
        first, second = (_marks(self.step(torch.float32)) for _ in range(2))
        return difference(first, second)

    def refusal_of_one_sample(self) -> str | None:
        """Why the models cannot be trained on a batch of one sample; None where they can.

        What is infinite on purpose is no reason, as a mask among the buffers or the logits: these may be infinite, but
        not what is no number.
        """
        try:
            step = self.step(torch.float32, rows=1)
        except plugins.MISTAKES as error:
            if memory.is_short(error):
                raise
            return first_line(error)
        buffers = dict(zip(self._named_buffers(), self._state[len(self._stack.parameters) :], strict=True))
        for name, places in _not_finite(step).items():
            if name in buffers:
                broken = bool((buffers[name].isfinite() & places).any())
            else:
                broken = _is_gradient(name) or bool(step[name].isnan().any())
            if broken:
                return f"{name} is not finite"
        return None

    def _named_buffers(self) -> dict[str, torch.Tensor]:
        return {
            f"{name} of model {index}": buffer
            for index, model in enumerate(self._models)
            for name, buffer in model.named_buffers()
        }

    def _scribbled_step(self, byte: int, dtype: torch.dtype) -> tuple[dict[str, Mark], Step]:
        """The marks of what a step in a rounded type computes, and which of its numbers are not finite."""
        with _scribbled(byte):
            step = self.step(dtype)
        return _marks(step), _not_finite(step)

    def _set_mode(self, *, training: bool) -> None:
        """Put the models into training mode, or into eval mode, in which cuDNN's recurrent layers have no gradient."""
        self._stack.train(mode=training)
        for module in chain.from_iterable(model.modules() for model in self._models):
            if isinstance(module, nn.RNNBase):
                module.train()


def examine(
    recipes: Sequence[Training],
    models: Sequence[nn.Module],
    data: DatasetRecord,
    train: Split,
    runtime: Runtime,
    prepare: Callable[[nn.Module], object] = lambda _: None,
    *,
    whole: bool = True,
) -> Findings:
    """Find out how models of one shape can be trained here; the models themselves stay as they are.

    Args:
        recipes: of their trainings.
        models: as their trainings begin.
        data: what they are for.
        train: the training samples.
        runtime: where they are.
        prepare: what was done to the first one after it was built.
        whole: whether this left a model that is all in its weights and buffers.

    Raises:
        InvalidSpec: the user's own model is not the same each time, or a model cannot be trained on single samples.
        StageFailed: bfloat16 or float16 was asked for, and is wrong.

    """
    first, name = recipes[0].training, recipes[0].model.name
    own, dtype = is_reference(name), runtime.dtype(first.precision, stacked=len(models) > 1)
    rounded = str(dtype).removeprefix("torch.")
    single = 1 in batch_sizes(len(train), first.batch_size)
    if not own and not single and dtype == torch.float32:
        return Findings(dtype)
    inputs, frozen = train.normalised(slice(0, ROWS)), frozen_names(models[0], first)
    if own:
        before = state_of(models[0])
        spare = own_code.build_again(models[0], recipes[0].model, data, runtime, first.seed, inputs, prepare)
        probe = Probe([spare], inputs, first.seed, like=models[0], frozen=frozen)
        _require_reproducible(probe, name)
        if whole:
            own_code.require_whole(spare, recipes[0].model, data, runtime, first.seed, inputs)
        own_code.require_untouched(models[0], before, name)
    else:
        like = models[0] if len(models) == 1 else None
        probe = Probe(copy.deepcopy(models), inputs, first.seed, like, frozen)
    joined = single and _must_join(probe, name, first.batch_size, len(train))
    fault = None if dtype == torch.float32 else probe.fault_of(dtype)
    if fault is None:
        return Findings(dtype, joined)
    if first.precision == "auto":
        logger.warning("%s: trained in float32: in %s %s on this device", name, rounded, fault.what)
        return Findings(torch.float32, joined, fault.what)
    if fault.certain:
        raise StageFailed(f"training.precision: {name} in {rounded}: {fault.what} on this device: say auto or float32")
    logger.warning("%s: trained in %s as it was asked for: %s", name, rounded, fault.what)
    return Findings(dtype, joined)


def _require_reproducible(probe: Probe, name: str) -> None:
    own_code.require_torch_only(name, lambda: probe.step(torch.float32))
    if other := probe.irreproducible():
        raise InvalidSpec(
            f"{name}: of two equal training steps from one state, {other} differs: draw random numbers from torch's "
            "generator, keep in buffers what a step depends on, and use neither the time nor earlier calls"
        )


def _must_join(probe: Probe, name: str, batch_size: int, samples: int) -> bool:
    """Whether a last batch of one sample is to be joined to the one before it.

    Raises:
        InvalidSpec: every batch has one sample, and the model cannot be trained on such.

    """
    refusal = probe.refusal_of_one_sample()
    if refusal and min(batch_size, samples) == 1:
        of_one = "a batch_size of 1" if batch_size == 1 else "the only training sample, with any batch_size"
        raise InvalidSpec(f"training.batch_size: {name} cannot be trained on {of_one}: {refusal}")
    return refusal is not None


@contextmanager
def _scribbled(byte: int) -> Iterator[None]:
    """Have glibc fill the memory that it gives out, so that a kernel that reads unwritten memory shows."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_PERTURB, byte ^ 0xFF)
    try:
        yield
    finally:
        mallopt(_PERTURB, 0)


def _is_gradient(name: str) -> bool:
    return name.startswith("the gradient")


def _not_finite(step: Step) -> dict[str, torch.Tensor]:
    """Which numbers of a step are not finite, of those tensors by name that have such."""
    places = ((name, ~tensor.isfinite()) for name, tensor in step.items())
    return {name: each for name, each in places if each.any()}


def _marks(step: Step) -> dict[str, Mark]:
    return {name: mark(tensor) for name, tensor in step.items()}
