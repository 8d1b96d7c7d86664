"""Assistants: students that teach other students of their spec (Mirzadeh et al. 2020)."""

from __future__ import annotations

from typing import LiteralString

from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.spec.student import StudentGrid, StudentSpec

Students = tuple[StudentSpec | StudentGrid, ...]


def generations(students: Students) -> tuple[Students, ...]:
    """The students that learn from the pipeline's own teacher, then those that these teach, and so on.

    Raises:
        PydanticCustomError: a student's teacher is no student of the spec, or students teach each other in a circle.

    """
    _require_known(students)
    found: list[Students] = []
    teaching: set[str | None] = {None}
    left = students
    while left:
        taught = tuple(student for student in left if student.teacher in teaching)
        if not taught:
            raise _circle(students, left[0])
        found.append(taught)
        left = tuple(student for student in left if student.teacher not in teaching)
        teaching = {student.name for student in taught}
    return tuple(found)


def _require_known(students: Students) -> None:
    names = [student.name for student in students]
    for index, student in enumerate(students):
        if student.teacher == student.name:
            raise _mistake(index, "'{name}' cannot teach itself", name=student.name)
        if student.teacher is not None and student.teacher not in names:
            others = [name for name in names if name != student.name]
            hint = did_you_mean(student.teacher, others) if others else ""
            raise _mistake(index, "no student is named '{name}'{hint}", name=student.teacher, hint=hint)


def _circle(students: Students, student: StudentSpec | StudentGrid) -> PydanticCustomError:
    """The error that a student's teachers, one behind the other, come to no first one."""
    by_name = {each.name: each for each in students}
    path: list[str] = []
    while student.name not in path:
        path.append(student.name)
        student = by_name[student.teacher or ""]
    circle = [*path[path.index(student.name) :], student.name]
    return _mistake(
        [each.name for each in students].index(student.name),
        "{names}: each learns from the next, and none from the pipeline's own teacher",
        names=", ".join(circle),
    )


def _mistake(index: int, words: LiteralString, **context: str) -> PydanticCustomError:
    return PydanticCustomError("students", words, {"key": f"students.{index}.teacher", **context})
