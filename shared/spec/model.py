"""What a spec says of a model: the families of models, one of which is for the user's own."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Discriminator, Tag

from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.models.hugging_face import HuggingFaceModelSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.shared.spec.models.timm import TimmSpec
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.shared.spec.part import unknown_name

#: Every family, each tagged with its `family`: a new one is a line here.
_Family = (
    Annotated[MlpSpec, Tag("mlp")]
    | Annotated[CnnSpec, Tag("cnn")]
    | Annotated[ResnetSpec, Tag("resnet")]
    | Annotated[TorchvisionSpec, Tag("torchvision")]
    | Annotated[TimmSpec, Tag("timm")]
    | Annotated[HuggingFaceModelSpec, Tag("hugging_face")]
    | Annotated[CustomModelSpec, Tag("custom")]
)
FAMILIES: tuple[type[ModelFamily], ...] = tuple(get_args(each)[0] for each in get_args(_Family))
#: Every name that a spec may give a model, with what it is.
MODELS = {name: about for family in FAMILIES for name, about in family.listed.items()}


def _family_of(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    known = (each.family for each in FAMILIES if isinstance(name, str) and each.has(name))
    return next(known, None)


def _must_be_a_known_model(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("name"), str) and _family_of(value) is None:
        raise unknown_name("name", "model", value["name"], MODELS, "models")
    return value


ModelSpec = Annotated[
    _Family,
    Discriminator(
        _family_of,
        custom_error_type="model",
        custom_error_message="a model is a mapping with a name, as in {name: mlp, hidden: [128]}",
    ),
    BeforeValidator(_must_be_a_known_model),
]
