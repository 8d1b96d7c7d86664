"""What all parts of a spec share: closed to unknown keys, and an error for an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.catalog import did_you_mean

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Options = dict[str, str | int | float | bool | None]


class Part(BaseModel):
    """A part of the spec: frozen, strictly typed, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key{hint}",
                        {"key": str(key), "hint": did_you_mean(str(key), cls.model_fields)},
                    )
        return data


def unknown_name(key: str, noun: str, name: str, known: Iterable[str]) -> PydanticCustomError:
    """The error that a name is not known, with the nearest one that is."""
    return PydanticCustomError(
        "unknown_name",
        "unknown {noun} '{name}'{hint}",
        {"key": key, "noun": noun, "name": name, "hint": did_you_mean(name, known)},
    )
