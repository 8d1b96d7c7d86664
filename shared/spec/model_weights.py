"""The weights of built-in models: names and shapes as torch has them, known without torch."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from distill_queue.shared.files.weights_file import Shape
from distill_queue.shared.spec.model import CnnSpec, MlpSpec, ModelSpec, ResnetSpec

#: Channels of the three parts of a residual network, and kernels' size (He et al. 2015, section 4.2).
RESNET_WIDTHS = (16, 32, 64)
KERNEL = (3, 3)


def weights_of(model: ModelSpec, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Shape] | None:
    """The names and shapes of a built-in model's weights in its own order; None of a model that only a worker knows.

    Args:
        model: what the spec says of it.
        shape: of one sample; None where only a worker knows it.
        classes: how many; None where only a worker knows it.

    """
    channels = shape[0] if shape else None
    match model:
        case MlpSpec(hidden=hidden):
            widths: tuple[int | None, ...] = (prod(shape) if shape else None, *hidden)
            layers = [_linear(f"layers.{place}", *ends) for place, ends in enumerate(pairwise(widths))]
            return _joined(*layers, _linear("head", widths[-1], classes))
        case CnnSpec(width=width, depth=depth):
            widths = (channels, *(width * 2**block for block in range(depth)))
            blocks = [
                _convolution(f"blocks.{place}.0", *ends) | _norm(f"blocks.{place}.2", ends[1])
                for place, ends in enumerate(pairwise(widths))
            ]
            return _joined(*blocks, _linear("head", widths[-1], classes))
        case ResnetSpec(name=name):
            first = RESNET_WIDTHS[0]
            stem = _convolution("stem.0", channels, first) | _norm("stem.1", first)
            each = (int(name.removeprefix("resnet")) - 2) // 6
            outputs = [width for width in RESNET_WIDTHS for _ in range(each)]
            residual = [
                _residual_block(f"blocks.{place}", *ends) for place, ends in enumerate(pairwise((first, *outputs)))
            ]
            return _joined(stem, *residual, _linear("head", RESNET_WIDTHS[-1], classes))
    return None


def _joined(*parts: dict[str, Shape]) -> dict[str, Shape]:
    return {name: shape for part in parts for name, shape in part.items()}


def _linear(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs, *KERNEL)}


def _norm(name: str, channels: int | None) -> dict[str, Shape]:
    of_channels = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in of_channels} | {f"{name}.num_batches_tracked": ()}


def _residual_block(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    return _joined(
        _convolution(f"{name}.conv1", inputs, outputs),
        _norm(f"{name}.norm1", outputs),
        _convolution(f"{name}.conv2", outputs, outputs),
        _norm(f"{name}.norm2", outputs),
    )
