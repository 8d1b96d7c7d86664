"""What a spec says of fully connected layers."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_queue.shared.files.weights_file import Shape
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.models.tensors import joined, linear


class MlpSpec(ModelFamily):
    """Fully connected layers with ReLU; `hidden` lists their widths."""

    family: ClassVar[str] = "mlp"
    listed: ClassVar[dict[str, str]] = {"mlp": "fully connected layers with ReLU: hidden: [512, 256]"}
    counted_by_layers: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    """Fully connected layers."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(strict=False, max_length=64)]
    """Widths of the hidden layers, as `[512, 256]`; `[]` is a linear model."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0, exclude_if=lambda share: share == 0.0)] = 0.0
    """Share of each hidden layer's outputs that are set to 0 in training, at random (Srivastava et al. 2014)."""
    input_dropout: Annotated[float, Field(ge=0.0, lt=1.0, exclude_if=lambda share: share == 0.0)] = 0.0
    """The same of the inputs."""

    @property
    def drops(self) -> bool:
        """Whether anything is set to 0 in training."""
        return self.dropout > 0.0 or self.input_dropout > 0.0

    @property
    def is_new(self) -> bool:
        """Whether it drops anything."""
        return self.drops

    @property
    def stackable(self) -> bool:
        """Whether nothing is drawn in its steps: members of a stack would draw from one generator."""
        return not self.drops

    @property
    def words(self) -> str:
        """Its name and widths."""
        widths = f"{self.name} {'-'.join(map(str, self.hidden))}" if self.hidden else f"{self.name}, linear"
        return f"{widths} with dropout" if self.drops else widths

    def tensors(self, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Shape] | None:
        """Each layer's weights and biases."""
        widths: tuple[int | None, ...] = (prod(shape) if shape else None, *self.hidden)
        layers = [linear(f"layers.{place}", *ends) for place, ends in enumerate(pairwise(widths))]
        return joined(*layers, linear("head", widths[-1], classes))
