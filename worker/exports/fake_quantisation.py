"""Fake quantisation: layers that compute in floating point with what integers of 8 bits would leave of their numbers.

Weights are rounded per output channel and symmetrically, inputs per tensor and affinely, as `onnx_int8` does it.
Gradients pass through the rounding as if it were not there, but for what lies outside of the range (Jacob et al. 2018,
Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from distill_queue.worker.machine.inputs import Inputs, through

#: The integers of a weight are from `-MOST_WEIGHT` to `MOST_WEIGHT`, those of an input from 0 to `MOST_INPUT`.
MOST_WEIGHT, MOST_INPUT = 127, 255


@dataclass(frozen=True, slots=True)
class Range:
    """The values between which a layer's inputs lie; 0 is one of them, as it has to be an integer exactly."""

    least: float = 0.0
    most: float = 0.0

    def with_values(self, values: torch.Tensor) -> Self:
        """The range that some values lie in, too."""
        least, most = values.detach().aminmax()
        return type(self)(min(self.least, float(least)), max(self.most, float(most)))

    @property
    def scale(self) -> float:
        """What a step from one integer to the next is worth; 1 where there is only 0."""
        return (self.most - self.least) / MOST_INPUT or 1.0

    @property
    def zero_point(self) -> int:
        """The integer that stands for 0."""
        return round(-self.least / self.scale)

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """Values as integers would have them."""
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, 0, MOST_INPUT)


#: Of each layer whose weights are rounded, by its name: the range of its inputs.
Ranges = dict[str, Range]


class RoundedLinear(nn.Linear):
    """A linear layer of rounded inputs and weights, which are still those of the layer that it stands for."""

    def __init__(self, layer: nn.Linear, inputs: Range) -> None:
        nn.Module.__init__(self)
        _become(self, layer)
        self._inputs = inputs

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (its name in torch)
        """What the layer makes of the rounded inputs."""
        return nn.functional.linear(self._inputs.rounded(input), rounded_weight(self.weight), self.bias)


class RoundedConv2d(nn.Conv2d):
    """A convolution of rounded inputs and weights, which are still those of the layer that it stands for."""

    def __init__(self, layer: nn.Conv2d, inputs: Range) -> None:
        nn.Module.__init__(self)
        _become(self, layer)
        self._inputs = inputs

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (its name in torch)
        """What the layer makes of the rounded inputs."""
        return self._conv_forward(self._inputs.rounded(input), rounded_weight(self.weight), self.bias)


#: What stands for each kind of layer. A kind that is made from one of them may compute something else.
_ROUNDED: dict[type[nn.Module], type[RoundedLinear | RoundedConv2d]] = {
    nn.Linear: RoundedLinear,
    nn.Conv2d: RoundedConv2d,
}


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """A weight `[outputs, ...]` as integers would have it, which have a scale for each output."""
    most = weight.detach().abs().flatten(1).amax(1)
    scales = torch.where(most > 0, most / MOST_WEIGHT, 1.0)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -MOST_WEIGHT, MOST_WEIGHT)


@torch.no_grad()
def ranges_of(model: nn.Module, batches: Iterable[Inputs]) -> Ranges:
    """The ranges of the inputs of a model's layers in eval mode, but for its head: the layer that computes last."""
    found: Ranges = {}
    order: dict[str, None] = {}
    named = [(name, layer) for name, layer in model.named_modules() if type(layer) in _ROUNDED]

    def note(name: str, given: torch.Tensor) -> None:
        found[name] = found.get(name, Range()).with_values(given)
        order.pop(name, None)
        order[name] = None

    hooks = [layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0])) for name, layer in named]
    was_training = model.training
    try:
        model.eval()
        for inputs in batches:
            through(model, inputs)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in list(order)[:-1]}


def round_layers(model: nn.Module, ranges: Mapping[str, Range]) -> None:
    """Have rounded layers stand for those of a model that ranges are known of; all names of its tensors stay."""
    layers = dict(model.named_modules(remove_duplicate=False))
    made: dict[nn.Module, nn.Module] = {}
    for name in [name for name, layer in layers.items() if type(layer) in _ROUNDED]:
        layer = layers[name]
        known = next((ranges[other] for other in layers if other in ranges and layers[other] is layer), None)
        if known is None or not name:
            continue
        stands_for = made.setdefault(layer, _ROUNDED[type(layer)](layer, known))
        parent, _, own = name.rpartition(".")
        setattr(layers[parent], own, stands_for)


def _become(new: nn.Module, layer: nn.Module) -> None:
    """Give a module all that a layer has: the same parameters, not copies of them."""
    new.__dict__.update(layer.__dict__)
