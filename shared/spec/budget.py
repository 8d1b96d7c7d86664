"""What a spec says of a budget: what a student may cost, and how good it must be."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.part import SpecPart

#: Left out where it is not stated, so that a report's recipe has only what the user wrote.
_Stated = Field(exclude_if=lambda limit: limit is None)

#: A number as `50_000`, which YAML 1.2 takes for a text, unlike YAML 1.1, TOML and Python.
_UNDERSCORES = r"[0-9]{1,3}(_[0-9]{3}){1,4}"


def _without_underscores(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(_UNDERSCORES, value) else value


#: Bytes; the schema is for editors, which read YAML 1.2.
_Bytes = Annotated[
    int | None,
    _Stated,
    Field(ge=1),
    BeforeValidator(_without_underscores),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{_UNDERSCORES}$"},
                {"type": "null"},
            ],
        }
    ),
]


class BudgetSpec(SpecPart):
    """Limits that a student has to keep; at least one. The report names the best student that keeps all of them."""

    bytes: _Bytes = None
    """The most bytes of its file, as `50_000`."""
    latency_ms: Annotated[float | None, _Stated, Field(gt=0.0)] = None
    """The most milliseconds that it takes for one sample: the median."""
    accuracy: Annotated[float | None, _Stated, Field(gt=0.0, le=100.0)] = None
    """The least accuracy on the test set in percent, as `97`."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.bytes is None and self.latency_ms is None and self.accuracy is None:
            raise PydanticCustomError("options", "needs one of 'bytes', 'latency_ms' and 'accuracy'", {})
        return self
