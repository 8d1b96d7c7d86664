"""A probe: what a model's operations do on this device, found out on a few samples before a training begins."""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from shared.catalog import is_reference
from shared.errors import InvalidSpec, StageFailed
from shared.recipes import Training
from shared.records import DatasetRecord
from worker import own_code, plugins
from worker.batches import batch_sizes
from worker.data import Split
from worker.runtime import Runtime, determinism
from worker.stack import Stack

#: Samples that a probe takes through a model.
ROWS = 16
#: Least cosine between all gradients in bfloat16 and in float32, in eval mode, and between those of one parameter.
#: Measured with our families in 15 sizes and 15 models of torchvision at 8 to 64 pixels: 0.98 and 0.6 or more.
LEAST_COSINE, LEAST_COSINE_OF_ONE = 0.9, 0.4
#: Least share of the largest norm that a parameter's gradient has, if its direction is to be looked at.
LEAST_NORM = 0.01
#: Bytes by which memory that nobody has written yet is told: as bfloat16 and as float32, 3e38 and 0.7.
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
    #: Why the matrix products are not in the bfloat16 that the device computes natively.
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with gradients in bfloat16."""

    what: str
    #: Whether it is wrong for certain: not finite, or another one each time. Else it is far from float32's.
    certain: bool


#: What a step computes, by what it is in words.
Step = dict[str, torch.Tensor]


class Probe:
    """Models that may be spoilt, and a few real samples to take through them."""

    def __init__(self, models: Sequence[nn.Module], inputs: torch.Tensor, seed: int) -> None:
        """Take untrained models of one shape, samples `[rows, ...]` as they take them, and a seed for dropout."""
        self._models, self._seed, self._device = models, seed, inputs.device
        self._stack = Stack(models)
        self._inputs = inputs.expand(len(models), *inputs.shape)
        self._state = [tensor.detach().clone() for tensor in self._tensors]

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
        inputs = self._inputs[:, :rows]
        inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
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
        for index, model in enumerate(self._models):
            found |= {f"{name} of model {index}": buffer.clone() for name, buffer in model.named_buffers()}
        return found

    def fault_of_bfloat16(self) -> Fault | None:
        """What is wrong with bfloat16 on this device, and right in float32; None where nothing is."""
        first, second = (self._scribbled_step(byte) for byte in _SCRIBBLES)
        broken = next(chain(_not_finite(first), _not_finite(second)), None)
        if broken is not None:
            if any(_not_finite(self.step(torch.float32))):
                return None
            return Fault(f"{broken} is not finite", certain=True)
        if other := _difference(first, second):
            if self.irreproducible():
                return None
            return Fault(f"{other} differs from one time to the next", certain=True)
        del first, second
        exact, rounded = (self.step(dtype, training=False) for dtype in (torch.float32, torch.bfloat16))
        far = _far_from(exact, rounded)
        return Fault(far, certain=False) if far else None

    def irreproducible(self) -> str:
        """What differs between two equal steps in float32; nothing where they are the same."""
        return _difference(self.step(torch.float32), self.step(torch.float32))

    def refusal_of_one_sample(self) -> str | None:
        """Why the models cannot be trained on a batch of one sample; None where they can."""
        try:
            broken = next(_not_finite(self.step(torch.float32, rows=1)), None)
        except plugins.MISTAKES as error:
            return plugins.first_line(error)
        return f"{broken} is not finite" if broken else None

    def _scribbled_step(self, byte: int) -> Step:
        with _scribbled(byte):
            return self.step(torch.bfloat16)

    def _set_mode(self, *, training: bool) -> None:
        """Put the models into training mode, or into eval mode, in which cuDNN's recurrent layers have no gradient."""
        self._stack.train(mode=training)
        for module in chain.from_iterable(model.modules() for model in self._models):
            if isinstance(module, nn.RNNBase):
                module.train()


def examine(
    recipes: Sequence[Training], models: Sequence[nn.Module], data: DatasetRecord, train: Split, runtime: Runtime
) -> Findings:
    """Find out how models of one shape can be trained here; the models themselves stay as they are.

    Raises:
        InvalidSpec: the user's own model is not the same each time, or a model cannot be trained on single samples.
        StageFailed: bfloat16 was asked for, and is wrong.

    """
    first, name = recipes[0].training, recipes[0].model.name
    own, dtype = is_reference(name), runtime.dtype(first.precision)
    single = 1 in batch_sizes(len(train), first.batch_size)
    if not own and not single and dtype == torch.float32:
        return Findings(dtype)
    inputs = train.normalised(slice(0, ROWS))
    if own:
        before = own_code.state_of(models[0])
        spare = own_code.build_again(models[0], recipes[0].model, data, runtime, first.seed, inputs)
        probe = Probe([spare], inputs, first.seed)
        _require_reproducible(probe, name)
        own_code.require_whole(spare, recipes[0].model, data, runtime, first.seed, inputs)
        own_code.require_untouched(models[0], before, name)
    else:
        probe = Probe(copy.deepcopy(models), inputs, first.seed)
    joined = single and _must_join(probe, name, first.batch_size, len(train))
    fault = probe.fault_of_bfloat16() if dtype == torch.bfloat16 else None
    if fault is None:
        return Findings(dtype, joined)
    if first.precision == "auto":
        logger.warning("%s: trained in float32: in bfloat16 %s on this device", name, fault.what)
        return Findings(torch.float32, joined, fault.what)
    if fault.certain:
        raise StageFailed(f"training.precision: {name} in bfloat16: {fault.what} on this device: say auto or float32")
    logger.warning("%s: trained in bfloat16 as it was asked for: %s", name, fault.what)
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
        of_one = "a batch_size of 1" if batch_size == 1 else "the only training sample, whatever the batch_size"
        raise InvalidSpec(f"training.batch_size: {name} cannot be trained on {of_one}: {refusal}")
    return refusal is not None


@contextmanager
def _scribbled(byte: int) -> Iterator[None]:
    """Have glibc fill the memory that it gives out, so that reading memory that nobody has written shows."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_PERTURB, byte ^ 0xFF)
    try:
        yield
    finally:
        mallopt(_PERTURB, 0)


def _not_finite(step: Step) -> Iterator[str]:
    """What of a step is not finite, by name."""
    return (name for name, tensor in step.items() if not tensor.isfinite().all())


def _difference(one: Step, other: Step) -> str:
    """The first name of what two steps do not have in common; nothing where they are the same."""
    return next((name for name in one | other if not _in_both(name, one, other)), "")


def _in_both(name: str, one: Step, other: Step) -> bool:
    return name in one and name in other and own_code.same(one[name], other[name])


def _far_from(exact: Step, rounded: Step) -> str:
    """Which gradient points elsewhere than the exact one; nothing where all of them are near."""
    names = [name for name in exact if name.startswith("the gradient") and name in rounded]
    norms = {name: exact[name].norm().item() for name in names}
    largest = max(norms.values(), default=0.0)
    if not largest:
        return ""
    products = {name: _product(exact[name], rounded[name]) for name in names}
    squares = {name: _product(rounded[name], rounded[name]) for name in names}
    whole = _cosine(sum(products.values()), sum(norm**2 for norm in norms.values()), sum(squares.values()))
    if not whole >= LEAST_COSINE:
        return f"the gradients are far from those in float32 (cosine {whole:.2f})"
    for name in names:
        cosine = _cosine(products[name], norms[name] ** 2, squares[name])
        if norms[name] > LEAST_NORM * largest and not cosine >= LEAST_COSINE_OF_ONE:
            return f"{name} is far from that in float32 (cosine {cosine:.2f})"
    return ""


def _product(one: torch.Tensor, other: torch.Tensor) -> float:
    """The scalar product of two tensors; of numbers too large for it, not finite."""
    return torch.dot(one.flatten().float(), other.flatten().float()).item()


def _cosine(product: float, *squares: float) -> float:
    lengths = math.prod(map(math.sqrt, squares))
    return product / lengths if lengths else 0.0
