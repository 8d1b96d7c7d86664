"""Tensors: the names and shapes of layers' weights, as torch has them, known without torch."""

from __future__ import annotations

from distill_queue.shared.files.weights_file import Shape

#: The kernels' size.
KERNEL = (3, 3)


def joined(*parts: dict[str, Shape]) -> dict[str, Shape]:
    """The tensors of several parts, in their order."""
    return {name: shape for part in parts for name, shape in part.items()}


def linear(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    """A linear layer's."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def convolution(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    """A convolution's without a bias."""
    return {f"{name}.weight": (outputs, inputs, *KERNEL)}


def norm(name: str, channels: int | None) -> dict[str, Shape]:
    """A batch norm's."""
    of_channels = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in of_channels} | {f"{name}.num_batches_tracked": ()}
