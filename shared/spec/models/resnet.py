"""What a spec says of a residual network for small images."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal, get_args

from distill_queue.shared.files.weights_file import Shape
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.models.tensors import convolution, joined, linear, norm

#: Channels of the three parts of a residual network (He et al. 2015, section 4.2).
WIDTHS = (16, 32, 64)

ResnetName = Literal["resnet8", "resnet14", "resnet20", "resnet32", "resnet56"]


class ResnetSpec(ModelFamily):
    """The CIFAR-style residual networks of He et al. 2015, section 4.2."""

    family: ClassVar[str] = "resnet"
    listed: ClassVar[dict[str, str]] = {
        name: f"residual network of {name[6:]} layers (He et al. 2015, for CIFAR)" for name in get_args(ResnetName)
    }
    counted_by_layers: ClassVar[bool] = True

    name: ResnetName
    """A residual network of so many layers."""

    def tensors(self, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Shape] | None:
        """The stem's, each block's and the head's."""
        first = WIDTHS[0]
        stem = convolution("stem.0", shape[0] if shape else None, first) | norm("stem.1", first)
        each = (int(self.name.removeprefix("resnet")) - 2) // 6
        outputs = [width for width in WIDTHS for _ in range(each)]
        blocks = [_block(f"blocks.{place}", *ends) for place, ends in enumerate(pairwise((first, *outputs)))]
        return joined(stem, *blocks, linear("head", WIDTHS[-1], classes))


def _block(name: str, inputs: int | None, outputs: int | None) -> dict[str, Shape]:
    return joined(
        convolution(f"{name}.conv1", inputs, outputs),
        norm(f"{name}.norm1", outputs),
        convolution(f"{name}.conv2", outputs, outputs),
        norm(f"{name}.norm2", outputs),
    )
