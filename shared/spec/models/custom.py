"""What a spec says of a model of the user's own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from distill_queue.shared.catalog import OWN, REFERENCE, is_reference
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.part import Options


class CustomModelSpec(ModelFamily):
    """`package.module:callable`, called with `input_shape`, `classes` and the options."""

    family: ClassVar[str] = "custom"
    listed: ClassVar[dict[str, str]] = OWN

    name: str = Field(pattern=REFERENCE)
    """`package.module:callable`."""
    options: Options = Field(default={})
    """Keyword arguments of the callable."""
    version: str = "1"
    """Part of the key: change it when the callable's code changes."""

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a model of this name is of this family."""
        return is_reference(name)
