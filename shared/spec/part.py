"""Spec parts: the base of all parts of a spec, closed to unknown keys, and the types of their values."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import isfinite
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.extensions import ExtensionKind, extensions
from distill_queue.shared.spelling import NAME, TIMM, TORCHVISION, WEIGHTS, Spelling
from distill_queue.shared.text import encodable

#: How deep lists may stand in lists.
DEEPEST = 8


def _spelled(spelling: Spelling, text: str) -> str:
    if fault := spelling.fault(text):
        raise PydanticCustomError("spelling", "is {fault}", {"fault": fault})
    return text


def _option(value: object, depth: int = 0) -> Any:
    """An option as it is kept: a list becomes a tuple, which cannot be changed."""
    match value:
        case bool() | None:
            return value
        case str():
            return _text(str.__str__(value))
        case int():
            return int(value)
        case float() if isfinite(value):
            return float(value)
        case list() | tuple() if depth < DEEPEST:
            return tuple(_option(item, depth + 1) for item in value)
    raise PydanticCustomError("option", "an option is text, a finite number, true, false, null, or a list of such")


def _text(text: str) -> str:
    """A text that messages, files and the broker can carry."""
    if encodable(text) != text:
        raise PydanticCustomError("option", "has an escape that is no character")
    return text


def as_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Options as keyword arguments of the callable that they are for, which gets lists of its own."""

    def thawed(value: Any) -> Any:
        return [thawed(item) for item in value] if isinstance(value, tuple) else value

    return {name: thawed(value) for name, value in options.items()}


def _schema_of(spelling: Spelling) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": spelling.pattern})


_SINGLE = [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]

Name = Annotated[str, AfterValidator(partial(_spelled, NAME)), _schema_of(NAME)]
TorchvisionName = Annotated[str, AfterValidator(partial(_spelled, TORCHVISION)), _schema_of(TORCHVISION)]
TimmName = Annotated[str, AfterValidator(partial(_spelled, TIMM)), _schema_of(TIMM)]
WeightsName = Annotated[str, AfterValidator(partial(_spelled, WEIGHTS)), _schema_of(WEIGHTS)]
#: Text, a number, a boolean, nothing, or a tuple of such.
Option = Annotated[
    Any,
    PlainValidator(_option),
    # An editor need not know more of lists in lists.
    WithJsonSchema({"anyOf": [*_SINGLE, {"type": "array", "items": {"anyOf": [*_SINGLE, {"type": "array"}]}}]}),
]
Options = dict[Annotated[str, AfterValidator(_text)], Option]


class SpecPart(BaseModel):
    """A part of the spec: frozen, strictly typed, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    @property
    def left_out_of_key(self) -> frozenset[str]:
        """The fields that are no part of a stage's key whatever they are."""
        return frozenset()

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        fields = cls.__pydantic_fields__  # Not `model_fields`, which is looked up anew: plans have dozens of parts.
        if isinstance(data, dict) and not data.keys() <= fields.keys():
            key = next(str(key) for key in data if key not in fields)
            raise PydanticCustomError(
                "unknown_key", "unknown key{hint}", {"key": key, "hint": did_you_mean(key, fields)}
            )
        return data


def at_most(most: int) -> BeforeValidator:
    """Refuse a list that is too long before its items are checked, which may all be wrong."""

    def refuse(value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) > most:
            raise PydanticCustomError(
                "options", "{count} items: {most} are the most", {"count": len(value), "most": most}
            )
        return value

    return BeforeValidator(refuse)


def unknown_name(key: str, noun: str, name: str, known: Iterable[str], kind: ExtensionKind) -> PydanticCustomError:
    """The error that a name is not known, with the nearest one that is, of a kind that packages can add to."""
    added = {each.name: each.reference for each in extensions(kind)}
    if name in added:  # A spec's reader has replaced it.
        return PydanticCustomError(
            "unknown_name",
            "'{name}' is short for '{reference}' in files and in PipelineSpec.of: write the reference here",
            {"key": key, "name": name, "reference": added[name]},
        )
    known = (*known, *added)
    return PydanticCustomError(
        "unknown_name",
        "unknown {noun} '{name}'{hint}",
        {"key": key, "noun": noun, "name": name, "hint": did_you_mean(name, known)},
    )
