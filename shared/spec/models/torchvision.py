"""What a spec says of a classifier of torchvision's."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.part import TorchvisionName, WeightsName


class TorchvisionSpec(ModelFamily):
    """`torchvision/<name>`, its head fitted to the classes."""

    family: ClassVar[str] = "torchvision"
    listed: ClassVar[dict[str, str]] = {
        "torchvision/<name>": "any classifier of torchvision, fitted to the classes: weights: …"
    }

    name: TorchvisionName
    """A classifier of torchvision's, as `torchvision/resnet18`."""
    weights: WeightsName | None = None
    """Name of pretrained weights to start from, as `IMAGENET1K_V1`: a worker downloads them."""

    @model_validator(mode="after")
    def _weights_stay_the_same(self) -> Self:
        if self.weights == "DEFAULT":
            raise PydanticCustomError(
                "options",
                "what DEFAULT means changes with torchvision: name them, as IMAGENET1K_V1",
                {"key": "weights"},
            )
        return self

    @property
    def starts(self) -> bool:
        """Whether weights are named."""
        return self.weights is not None

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a model of this name is of this family."""
        return name.startswith("torchvision/")
