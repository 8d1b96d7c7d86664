"""What a spec says of a student's export: the formats, and how far an exported file may differ from the student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import OWN, is_reference
from distill_queue.shared.spec.exports.executorch import EXECUTORCH
from distill_queue.shared.spec.exports.executorch_int8 import EXECUTORCH_INT8
from distill_queue.shared.spec.exports.format import ExportFormat
from distill_queue.shared.spec.exports.onnx import ONNX
from distill_queue.shared.spec.exports.onnx_int8 import ONNX_INT8
from distill_queue.shared.spec.part import SpecPart, at_most, unknown_name
from distill_queue.shared.text import plain_line

#: Most files that a student leaves in.
MOST_FORMATS = 20
#: Every format by its name: a new one is a name here.
FORMATS: dict[str, ExportFormat] = {each.name: each for each in (ONNX, ONNX_INT8, EXECUTORCH, EXECUTORCH_INT8)}


#: Characters of a note on the licence.
LONGEST_LICENCE = 500


def _must_be_a_line(text: str) -> str:
    if plain_line(text) != text:
        raise PydanticCustomError("options", "must be one line of plain text", {"key": "licence"})
    return text


def _must_be_a_format(name: str) -> str:
    if name not in FORMATS and not is_reference(name):
        raise unknown_name("formats", "format", name, (*FORMATS, *OWN), "formats")
    return name


class ExportSpec(SpecPart):
    """Files that a student leaves in, each evaluated on the whole test set before it counts as made."""

    formats: Annotated[
        tuple[Annotated[str, AfterValidator(_must_be_a_format)], ...],
        Field(strict=False, min_length=1),
        at_most(MOST_FORMATS),
    ] = ("onnx",)
    """Of those that `distill formats` lists, as `[onnx, onnx-int8]`, or `package.module:Class` of your own."""
    tolerance: float = Field(default=1.0, ge=0.0, le=100.0)
    """Points of accuracy that a file of integers may lose; with more lost, its export fails."""
    quantise: Literal["after", "aware"] = Field(default="after", exclude_if=lambda quantise: quantise == "after")
    """`aware`: where a file of integers loses more, the student is trained on a little with rounded weights first."""
    licence: Annotated[
        str, AfterValidator(_must_be_a_line), Field(max_length=LONGEST_LICENCE, exclude_if=lambda text: not text)
    ] = ""
    """What the files say of their licence, as `cc-by-4.0` or a sentence; without it they say nothing."""
    version: str = "1"
    """Of a format of the user's own, part of the key: change it when its code changes."""

    @model_validator(mode="after")
    def _version_is_of_a_format_of_ones_own(self) -> Self:
        if self.version != "1" and not any(map(is_reference, self.formats)):
            raise PydanticCustomError("options", "belongs to a format of your own only", {"key": "version"})
        return self

    @model_validator(mode="after")
    def _formats_are_different(self) -> Self:
        twice = next((name for name in self.formats if self.formats.count(name) > 1), None)
        if twice:
            raise PydanticCustomError("options", "names '{name}' twice", {"key": "formats", "name": twice})
        return self

    @model_validator(mode="after")
    def _quantises_something(self) -> Self:
        of_integers = [name for name, each in FORMATS.items() if each.integers]
        if self.quantise != "after" and not set(self.formats) & set(of_integers):
            raise PydanticCustomError(
                "options",
                "belongs to files of integers: add {format} to the formats",
                {"key": "quantise", "format": " or ".join(of_integers)},
            )
        return self
