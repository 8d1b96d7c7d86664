"""Ranges: `{between: [1, 20], scale: log}` in place of a student's value, which only 'distill tune' takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.markup import Location
from distill_queue.shared.spec.file import SpecFile

#: How the values of a range are spread: evenly, or evenly by their logarithms.
SCALES = ("linear", "log")


@dataclass(frozen=True, slots=True)
class Between:
    """The ends of a range."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """A range as it stands in a file.

        Raises:
            ValueError: it is not written as one; the message says what is wrong.

        """
        ends, scale = value["between"], value.get("scale", "linear")
        if value.keys() - {"between", "scale"}:
            raise ValueError("a range has the keys 'between' and 'scale' only")
        if not (isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_is_number, ends))):
            raise ValueError("a range is two numbers, as {between: [1, 20]}")
        low, high = ends
        if low >= high:
            raise ValueError(f"the lower end comes first: {low:g} is not below {high:g}")
        if scale not in SCALES:
            raise ValueError("the scale of a range is 'linear' or 'log'")
        if scale == "log" and low <= 0:
            raise ValueError("a range by logarithms begins above 0")
        return cls(low, high, scale == "log")


def ranges(data: Any, place: Location = ()) -> Iterator[tuple[Location, dict[str, Any]]]:
    """Place and content of each range inside some values of a spec; the options of a user's own code have none."""
    if isinstance(data, dict) and place[-1:] != ("options",):
        if place and "between" in data:
            yield place, data
            return
        for key, value in data.items():
            yield from ranges(value, (*place, str(key)))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from ranges(value, (*place, index))


def refuse_ranges(source: SpecFile) -> None:
    """Refuse a spec with a range, which no pipeline has.

    Raises:
        InvalidSpec: there is one; the message says where.

    """
    for place, _ in ranges(source.data):
        instead = "a value or a grid" if place[0] == "students" else "a value"
        raise InvalidSpec(source.at(place, f"a range is for 'distill tune', in a student: write {instead}"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
