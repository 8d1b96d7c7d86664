"""Growth: how many students a spec may become where its grids and seeds are written out."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

from distill_queue.shared.files.markup import require_plain
from distill_queue.shared.spec.grid import LARGEST_GRID, number_of_points

#: Trainings of students in one pipeline, controls left out.
MOST_TRAININGS = 10_000
#: Values of all students with a grid, each once for each of its points.
MOST_GROWN_VALUES = 250_000


def must_not_grow(students: Any) -> Any:
    """Refuse students whose grids and seeds would make far more of them than what is written."""
    trainings = values = 0
    for student in students if isinstance(students, list | tuple) else ():
        if isinstance(student, dict):
            points, seeds = number_of_points(student), student.get("seeds", 1)
            trainings += points * (seeds if type(seeds) is int and seeds > 0 else 1)
            if points > 1:
                values += min(points, LARGEST_GRID) * require_plain(student)
    if trainings > MOST_TRAININGS:
        raise PydanticCustomError(
            "students",
            "{trainings} trainings, as students times points of their grids times seeds: {most} are the most",
            {"trainings": f"{trainings:,}", "most": f"{MOST_TRAININGS:,}"},
        )
    if values > MOST_GROWN_VALUES:
        raise PydanticCustomError(
            "students",
            "{values} values with all grids written out: {most} are the most",
            {"values": f"{values:,}", "most": f"{MOST_GROWN_VALUES:,}"},
        )
    return students
