"""What a spec says of a small convolutional network."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_queue.shared.files.weights_file import Shape
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.models.tensors import convolution, joined, linear, norm


class CnnSpec(ModelFamily):
    """`depth` blocks of convolution, pooling, batch norm and ReLU; the first is `width` channels wide."""

    family: ClassVar[str] = "cnn"
    listed: ClassVar[dict[str, str]] = {
        "cnn": "blocks of convolution, pooling, batch norm and ReLU: width: 32, depth: 3"
    }
    counted_by_layers: ClassVar[bool] = True

    name: Literal["cnn"] = "cnn"
    """A small convolutional network."""
    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the first block; each further block has twice as many."""
    depth: int = Field(default=3, ge=1, le=5)
    """Number of blocks."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0, exclude_if=lambda share: share == 0.0)] = 0.0
    """Share of the last block's means, which the head takes, that are set to 0 in training, at random."""

    @property
    def drops(self) -> bool:
        """Whether anything is set to 0 in training."""
        return self.dropout > 0.0

    @property
    def is_new(self) -> bool:
        """Whether it drops anything."""
        return self.drops

    @property
    def words(self) -> str:
        """Its name and the blocks' widths."""
        widths = f"{self.name} {'-'.join(str(self.width << block) for block in range(self.depth))}"
        return f"{widths} with dropout" if self.drops else widths

    def tensors(self, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Shape] | None:
        """Each block's convolution and norm, and the head."""
        widths = (shape[0] if shape else None, *(self.width * 2**block for block in range(self.depth)))
        blocks = [
            convolution(f"blocks.{place}.0", *ends) | norm(f"blocks.{place}.2", ends[1])
            for place, ends in enumerate(pairwise(widths))
        ]
        return joined(*blocks, linear("head", widths[-1], classes))
