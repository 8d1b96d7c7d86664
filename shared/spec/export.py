"""What a spec says of a student's export: the formats, and how far an exported file may differ from the student."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.spec.exports.executorch import EXECUTORCH
from distill_queue.shared.spec.exports.executorch_int8 import EXECUTORCH_INT8
from distill_queue.shared.spec.exports.format import ExportFormat
from distill_queue.shared.spec.exports.onnx import ONNX
from distill_queue.shared.spec.exports.onnx_int8 import ONNX_INT8
from distill_queue.shared.spec.part import SpecPart, at_most

#: Every format by its name: a new one is a name here.
FORMATS: dict[str, ExportFormat] = {each.name: each for each in (ONNX, ONNX_INT8, EXECUTORCH, EXECUTORCH_INT8)}


def _must_be_a_format(name: str) -> str:
    if name not in FORMATS:
        raise PydanticCustomError(
            "unknown_name", "unknown format '{name}'{hint}", {"name": name, "hint": did_you_mean(name, FORMATS)}
        )
    return name


class ExportSpec(SpecPart):
    """Files that a student leaves in, each evaluated on the whole test set before it counts as made."""

    formats: Annotated[
        tuple[Annotated[str, AfterValidator(_must_be_a_format)], ...],
        Field(strict=False, min_length=1),
        at_most(len(FORMATS)),
    ] = ("onnx",)
    """Of those that `distill formats` lists, as `[onnx, onnx-int8]`."""
    tolerance: float = Field(default=1.0, ge=0.0, le=100.0)
    """Points of accuracy that a file of integers may lose; with more lost, its export fails."""

    @model_validator(mode="after")
    def _formats_are_different(self) -> Self:
        twice = next((name for name in self.formats if self.formats.count(name) > 1), None)
        if twice:
            raise PydanticCustomError("options", "names '{name}' twice", {"key": "formats", "name": twice})
        return self
