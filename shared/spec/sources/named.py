"""What a spec says of a built-in data set, or of the user's own callable."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import DATASETS, is_reference
from distill_queue.shared.spec.augmentation import SampleFacts
from distill_queue.shared.spec.part import Options
from distill_queue.shared.spec.sources.source import DataSource, Named


class WithOptions(Named):
    """The options of a callable: a class of their own, so that they are written between its name and its version."""

    options: Options = Field(default={})
    """Keyword arguments of the user's callable."""


class NamedDatasetSpec(DataSource, WithOptions):
    """A data set by name, or `package.module:callable` for the user's own."""

    source: ClassVar[str] = "named"
    listed: ClassVar[dict[str, str]] = {name: facts.about for name, facts in DATASETS.items()}

    name: str
    """One that `distill datasets` lists, or `package.module:callable`."""

    @property
    def sample(self) -> SampleFacts | None:
        """The shape of a built-in data set's images."""
        facts = DATASETS.get(self.name)
        return SampleFacts(facts.shape) if facts else None

    @property
    def known_classes(self) -> tuple[str, ...]:
        """Those of a built-in data set of digits."""
        facts = DATASETS.get(self.name)
        return facts.class_names if facts else ()

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether it is a built-in data set or a reference."""
        return name in DATASETS or is_reference(name)

    @model_validator(mode="after")
    def _options_are_for_a_callable(self) -> Self:
        if self.options and self.name in DATASETS:
            raise PydanticCustomError(
                "options", "data set '{name}' takes no options", {"key": "options", "name": self.name}
            )
        return self
