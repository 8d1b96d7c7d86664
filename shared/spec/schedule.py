"""Schedules: numbers of a distillation that change along a line over the steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.part import SpecPart

#: A field for each end, made by a call since `from` is a word of Python's own.
_FIELDS: dict[str, Any] = {
    "from": (float, Field(description="The value in the first step of a training.")),
    "to": (float, Field(description="The value in the last step.")),
}
_Ends: Any = create_model("_Ends", __base__=SpecPart, **_FIELDS)


class Schedule(_Ends):  # type: ignore[misc]
    """`{from: 8, to: 1}` in place of a number: the value changes along a line over the steps of a training."""

    @property
    def ends(self) -> tuple[float, float]:
        """The values in the first and in the last step."""
        return getattr(self, "from"), self.to

    @model_validator(mode="after")
    def _changes(self) -> Self:
        first, last = self.ends
        if first == last:
            raise PydanticCustomError("options", "both ends are the same: write {number}", {"number": f"{first:g}"})
        return self


def ends_of(value: float | Schedule) -> tuple[float, float]:
    """The values in the first and in the last step, which for a number are one."""
    return value.ends if isinstance(value, Schedule) else (value, value)


def in_words(value: float | Schedule) -> str:
    """A number as it is, or the ends of a schedule with an arrow between them."""
    return "→".join(f"{end:g}" for end in value.ends) if isinstance(value, Schedule) else f"{value:g}"


def _kind(value: Any) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


def _both_ends(right: Callable[[float], bool], limits: str) -> AfterValidator:
    """Hold both ends of a schedule to the limits of the number that it stands for."""

    def require(schedule: Schedule) -> Schedule:
        if not all(map(right, schedule.ends)):
            raise PydanticCustomError("options", "both ends must be {limits}", {"limits": limits})
        return schedule

    return AfterValidator(require)


Temperature = Annotated[
    Annotated[float, Field(gt=0.0, le=1e4), Tag("number")]
    | Annotated[Schedule, _both_ends(lambda end: 0.0 < end <= 1e4, "above 0, and 10,000 at the most"), Tag("schedule")],
    Discriminator(_kind),
]
Alpha = Annotated[
    Annotated[float, Field(ge=0.0, le=1.0), Tag("number")]
    | Annotated[Schedule, _both_ends(lambda end: 0.0 <= end <= 1.0, "from 0 to 1"), Tag("schedule")],
    Discriminator(_kind),
]
