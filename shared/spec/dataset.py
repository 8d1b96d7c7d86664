"""What a spec says of its data."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import DATASETS, is_reference
from distill_queue.shared.spec.part import Options, SpecPart, unknown_name


class DatasetSpec(SpecPart):
    """A data set by name, or `package.module:callable` for the user's own."""

    name: str
    """One that `distill datasets` lists, or `package.module:callable`."""
    options: Options = Field(default={})
    """Keyword arguments of the user's callable."""
    version: str = "1"
    """Part of the key: change it when the callable's data change."""
    validation: float = Field(default=0.0, ge=0.0, le=0.5)
    """Share of the training samples held out, evenly over the classes, to choose epochs and grid points by."""
    labelled: int | None = Field(default=None, ge=1)
    """How many training samples keep their label, evenly over the classes; the others only carry soft labels."""

    @model_validator(mode="after")
    def _must_be_known(self) -> Self:
        if self.name not in DATASETS and not is_reference(self.name):
            raise unknown_name("name", "data set", self.name, DATASETS, "data_sources")
        if self.options and self.name in DATASETS:
            raise PydanticCustomError(
                "options", "data set '{name}' takes no options", {"key": "options", "name": self.name}
            )
        return self
