"""What a spec says of its data: the sources, one of which is for built-in sets and the user's own code."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Discriminator, Tag, TypeAdapter

from distill_queue.shared.spec.part import unknown_name
from distill_queue.shared.spec.sources.arrays import ArraysSpec
from distill_queue.shared.spec.sources.hugging_face import HuggingFaceFolderSpec, HuggingFaceHubSpec
from distill_queue.shared.spec.sources.image_folder import ImageFolderSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.shared.spec.sources.text import TextSpec

#: Every source, each tagged with its `source`: a new one is a line here.
_Source = (
    Annotated[NamedDatasetSpec, Tag("named")]
    | Annotated[ArraysSpec, Tag("arrays")]
    | Annotated[ImageFolderSpec, Tag("image_folder")]
    | Annotated[TableSpec, Tag("table")]
    | Annotated[TextSpec, Tag("text")]
    | Annotated[HuggingFaceFolderSpec, Tag("huggingface")]
    | Annotated[HuggingFaceHubSpec, Tag("huggingface_hub")]
)
SOURCES: tuple[type[DataSource], ...] = tuple(get_args(each)[0] for each in get_args(_Source))
#: Every name that a spec may give a data set, with what it is.
LISTED = {name: about for source in SOURCES for name, about in source.listed.items()}


def _source_of(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    known = (each.source for each in SOURCES if isinstance(name, str) and each.has(name))
    return next(known, None)


def _must_be_a_known_source(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("name"), str) and _source_of(value) is None:
        raise unknown_name("name", "data set", value["name"], LISTED, "data_sources")
    return value


DatasetSpec = Annotated[
    _Source,
    Discriminator(
        _source_of,
        custom_error_type="dataset",
        custom_error_message="a data set is a mapping with a name, as in {name: mnist}",
    ),
    BeforeValidator(_must_be_a_known_source),
]


@cache
def dataset_reader() -> TypeAdapter[Any]:
    """Reads and checks a data set that stands alone."""
    return TypeAdapter(DatasetSpec)
