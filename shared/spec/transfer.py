"""What a spec says of the transfer set: the classes whose samples a student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.part import SpecPart, at_most

#: Most classes that are named.
MOST_CLASSES = 10_000

Class = Annotated[int, Field(ge=0)] | str
Classes = Annotated[tuple[Class, ...], Field(strict=False), at_most(MOST_CLASSES)]


class TransferSpec(SpecPart):
    """The classes whose training samples a student and its control learn from; all classes where nothing is said."""

    only: Classes = ()
    """Names or numbers (from 0) of the only classes, as `[7, 8]`."""
    without: Classes = ()
    """Names or numbers of the classes that are left out, as `[3]`."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.only and self.without:
            raise PydanticCustomError("options", "give either 'only' or 'without'", {"key": "without"})
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether the student learns from all samples."""
        return not (self.only or self.without)

    @property
    def named(self) -> Classes:
        """The classes that are named, to be learned from or left out."""
        return self.only or self.without

    @property
    def words(self) -> str:
        """Which classes it learns from, as short as tables need it."""
        classes = ", ".join(map(str, self.named))
        return f"{'only' if self.only else 'without'} {classes}"

    def classes(self, names: Sequence[str]) -> tuple[int, ...] | None:
        """The numbers of the classes that are learned from, of all `names`; None for all.

        Raises:
            InvalidSpec: a class is none of them, or none is left.

        """
        if self.changes_nothing:
            return None
        named = {_number(each, names) for each in self.named}
        left = tuple(number for number in range(len(names)) if (number in named) == bool(self.only))
        if not left:
            raise InvalidSpec(f"transfer: {self.words}: no class is left to learn from")
        return left


def _number(given: int | str, names: Sequence[str]) -> int:
    if isinstance(given, str) and given in names:
        return names.index(given)
    if isinstance(given, int) and given < len(names):
        return given
    hint = did_you_mean(given, names) if isinstance(given, str) else ""
    raise InvalidSpec(f"transfer: class {given} is none of the {len(names):,} classes of the data{hint}")
