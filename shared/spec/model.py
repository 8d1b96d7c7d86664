"""What a spec says of a model: one of the families, or the user's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import MODELS, REFERENCE, RESNETS, is_reference
from distill_queue.shared.spec.part import Options, SpecPart, TorchvisionName, WeightsName, unknown_name


class MlpSpec(SpecPart):
    """Fully connected layers with ReLU; `hidden` lists their widths."""

    name: Literal["mlp"] = "mlp"
    """Fully connected layers."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(strict=False, max_length=64)]
    """Widths of the hidden layers, as `[512, 256]`; `[]` is a linear model."""


class CnnSpec(SpecPart):
    """`depth` blocks of convolution, pooling, batch norm and ReLU; the first is `width` channels wide."""

    name: Literal["cnn"] = "cnn"
    """A small convolutional network."""
    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the first block; each further block has twice as many."""
    depth: int = Field(default=3, ge=1, le=5)
    """Number of blocks."""


class ResnetSpec(SpecPart):
    """The CIFAR-style residual networks of He et al. 2015, section 4.2."""

    name: Literal["resnet8", "resnet14", "resnet20", "resnet32", "resnet56"]
    """A residual network of so many layers."""


class TorchvisionSpec(SpecPart):
    """`torchvision/<name>`, its head fitted to the classes."""

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


class CustomModelSpec(SpecPart):
    """`package.module:callable`, called with `input_shape`, `classes` and the options."""

    name: str = Field(pattern=REFERENCE)
    """`package.module:callable`."""
    options: Options = Field(default={})
    """Keyword arguments of the callable."""
    version: str = "1"
    """Part of the key: change it when the callable's code changes."""


def _model_family(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    if name in ("mlp", "cnn"):
        return name
    if name in RESNETS:
        return "resnet"
    if name.startswith("torchvision/"):
        return "torchvision"
    return "custom" if is_reference(name) else None


def _must_be_a_known_model(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("name"), str) and _model_family(value) is None:
        known = (*MODELS, "torchvision/<name>", "package.module:callable")
        raise unknown_name("name", "model", value["name"], known)
    return value


ModelSpec = Annotated[
    Annotated[MlpSpec, Tag("mlp")]
    | Annotated[CnnSpec, Tag("cnn")]
    | Annotated[ResnetSpec, Tag("resnet")]
    | Annotated[TorchvisionSpec, Tag("torchvision")]
    | Annotated[CustomModelSpec, Tag("custom")],
    Discriminator(
        _model_family,
        custom_error_type="model",
        custom_error_message="a model is a mapping with a name, as in {name: mlp, hidden: [128]}",
    ),
    BeforeValidator(_must_be_a_known_model),
]
