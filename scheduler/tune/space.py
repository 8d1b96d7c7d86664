"""The space of a study: what may differ from candidate to candidate of a student, and the student with some values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any, Self

from pydantic import ValidationError

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.markup import Location
from distill_queue.shared.spec.distillation import LOSSES, DistillationSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.grid import values_in_grids, words_of
from distill_queue.shared.spec.ranges import Between, ranges
from distill_queue.shared.spec.student import StudentSpec

#: The ranges of a student that has none of its own: temperature, alpha, and by how much the learning rate differs.
TEMPERATURES, ALPHAS, LEARNING_RATE_FACTOR = (1.0, 20.0), (0.1, 1.0), 10.0
#: The losses of such a student, by what tables call them.
DEFAULT_LOSSES: dict[str, tuple[str, bool]] = {
    "kd": ("kd", False),
    "standardised kd": ("kd", True),
    "dkd": ("dkd", False),
    "dist": ("dist", False),
}
#: Digits of a value that are kept: a last bit that another machine computes differently gives no other key.
DIGITS = 3
#: What cannot differ among the candidates of a student.
SINGLE: tuple[Location, ...] = (("name",), ("seeds",), ("training", "seed"))

#: A candidate's values, by the names of the dimensions.
Values = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Choice:
    """A dimension of some values."""

    name: str
    #: By what tables call each value: what it sets in the student.
    options: dict[str, dict[Location, Any]]
    #: Of the first candidate.
    start: str

    @property
    def words(self) -> str:
        """What the dimension spans."""
        return f"{self.name} {', '.join(self.options)}"

    def changes(self, value: Any) -> dict[Location, Any]:
        """What a value sets in the student."""
        return self.options[value]


@dataclass(frozen=True, slots=True)
class Range:
    """A dimension between two numbers."""

    name: str
    place: Location
    low: float
    high: float
    #: Whether ratios count, and not differences.
    log: bool
    whole: bool
    #: Of the first candidate.
    start: float

    @property
    def words(self) -> str:
        """What the dimension spans."""
        return f"{self.name} {words_of(self.low)} to {words_of(self.high)}"

    def changes(self, value: Any) -> dict[Location, Any]:
        """What a value sets in the student."""
        return {self.place: self.rounded(value)}

    def rounded(self, value: float) -> float:
        """A value with few digits, still between the ends; the start is as it is."""
        if self.whole or value == self.start:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True, slots=True)
class Space:
    """The dimensions of a student, and the student as its file has it, without grids and ranges."""

    student: dict[str, Any]
    dimensions: tuple[Choice | Range, ...]

    @classmethod
    def of(cls, source: SpecFile, index: int) -> Self:
        """The space of a student of a file: its grids and ranges, or a usual space where it has neither.

        Raises:
            InvalidSpec: a grid or a range cannot be used; the message says where.

        """
        place: Location = ("students", index)
        student = source.data["students"][index]
        if not isinstance(student, dict):
            raise InvalidSpec(source.at(place, "a mapping is needed"))
        found: list[Choice | Range] = [*_choices(source, place, student), *_ranges(source, place, student)]
        for dimension in found:
            if (at := tuple(dimension.name.split("."))) in SINGLE:
                raise InvalidSpec(source.at((*place, *at), "cannot differ from candidate to candidate"))
        plain = _started(student, found)
        try:
            spec = StudentSpec.model_validate(plain)
        except ValidationError as error:
            raise InvalidSpec(source.explain(error, place)) from None
        typed = [_typed(source, place, plain, each) for each in found]
        return cls(_started(student, typed), tuple(_shortly_named(typed or list(_usual(spec)))))

    @property
    def start(self) -> Values:
        """The values of the first candidate: what the spec says, or the first or the middle of what it allows."""
        return {dimension.name: dimension.start for dimension in self.dimensions}

    def rounded(self, values: Values) -> Values:
        """Values with as many digits as candidates have."""
        return {
            each.name: each.rounded(value) if isinstance(each, Range) and not isinstance(value, str) else value
            for each in self.dimensions
            for value in [values[each.name]]
        }

    def candidate(self, values: Values) -> StudentSpec:
        """The student with some values.

        Raises:
            InvalidSpec: they do not go together.

        """
        student = self.student
        for dimension in self.dimensions:
            student = _with(student, dimension.changes(values[dimension.name]))
        try:
            return StudentSpec.model_validate(student)
        except ValidationError as error:
            place, words = next(SpecFile.of(student).mistakes(error))
            raise InvalidSpec(f"with {in_words(values)}: {'.'.join(map(str, place))}: {words}") from None


def in_words(values: Values) -> str:
    """Values in one line, as `temperature 4, alpha 0.9`."""
    return ", ".join(f"{name} {words_of(value)}" for name, value in values.items())


def _choices(source: SpecFile, place: Location, student: dict[str, Any]) -> Iterator[Choice]:
    for at, values in values_in_grids(student):
        options: dict[str, dict[Location, Any]] = {words_of(value): {at: value} for value in values}
        if not options or len(options) < len(values):
            wrong = "a value stands twice in the grid" if options else "the grid has no values"
            raise InvalidSpec(source.at((*place, *at), wrong))
        yield Choice(".".join(map(str, at)), options, next(iter(options)))


def _ranges(source: SpecFile, place: Location, student: dict[str, Any]) -> Iterator[Range]:
    for at, value in ranges(student):
        try:
            if any(isinstance(part, int) for part in at):
                raise ValueError("a list has no ranges: write a grid of lists")
            ends = Between.of(value)
        except ValueError as error:
            raise InvalidSpec(source.at((*place, *at), str(error))) from None
        # From its lower end, until it is known whether the field takes whole numbers only.
        yield Range(".".join(map(str, at)), at, ends.low, ends.high, ends.log, whole=True, start=ends.low)


def _typed(source: SpecFile, place: Location, plain: dict[str, Any], dimension: Choice | Range) -> Choice | Range:
    """A dimension of whole numbers or of others, as its field is.

    Raises:
        InvalidSpec: the field does not take the ends of a range.

    """
    if isinstance(dimension, Choice):
        return dimension
    for end in (dimension.low, dimension.high):
        try:
            StudentSpec.model_validate(_with(plain, {dimension.place: end}))
        except ValidationError as error:
            raise InvalidSpec(source.explain(error, place)) from None
    between = (dimension.low + dimension.high) / 2
    between += 0.25 if float(between).is_integer() else 0.0
    low, high = dimension.low, dimension.high
    middle = exp((log(low) + log(high)) / 2) if dimension.log else (low + high) / 2
    if _is_valid(_with(plain, {dimension.place: between})):
        return replace(dimension, whole=False, start=float(f"{middle:.{DIGITS}g}"))
    return replace(dimension, start=round(middle))


def _usual(student: StudentSpec) -> Iterator[Choice | Range]:
    """The dimensions of a student that says nothing of them, around what it has."""
    distillation, rate = student.distillation, student.training.learning_rate
    for field, (low, high), spread in (("temperature", TEMPERATURES, True), ("alpha", ALPHAS, False)):
        own = getattr(distillation, field)
        if not isinstance(own, int | float):  # It changes over the training, as the spec says.
            continue
        place = ("distillation", field)
        yield Range(f"distillation.{field}", place, min(low, own), max(high, own), spread, False, own)
    ends = rate / LEARNING_RATE_FACTOR, rate * LEARNING_RATE_FACTOR
    yield Range("training.learning_rate", ("training", "learning_rate"), *ends, True, False, rate)
    if _has_plain_loss(distillation):
        own_loss = f"{'standardised ' if distillation.standardise else ''}{distillation.loss}"
        losses = DEFAULT_LOSSES | {own_loss: (distillation.loss, distillation.standardise)}
        options: dict[str, dict[Location, Any]] = {
            name: {("distillation", "loss"): loss, ("distillation", "standardise"): standardise}
            for name, (loss, standardise) in losses.items()
        }
        yield Choice("loss", options, own_loss)


def _has_plain_loss(distillation: DistillationSpec) -> bool:
    """Whether the loss is one of ours, without options that other losses do not have."""
    plain = DistillationSpec(
        loss=distillation.loss if distillation.loss in LOSSES else "kd",
        temperature=distillation.temperature,
        alpha=distillation.alpha,
        standardise=distillation.standardise,
    )
    return plain == distillation


def _shortly_named(dimensions: list[Choice | Range]) -> Iterator[Choice | Range]:
    """The dimensions with the last part of their names, where it is the name of no other."""
    last = [dimension.name.rpartition(".")[2] for dimension in dimensions]
    for dimension, name in zip(dimensions, last, strict=True):
        yield replace(dimension, name=name if last.count(name) == 1 else dimension.name)


def _started(student: dict[str, Any], dimensions: Sequence[Choice | Range]) -> dict[str, Any]:
    """The student with each dimension's first value."""
    return _with(student, {at: value for each in dimensions for at, value in each.changes(each.start).items()})


def _with(student: dict[str, Any], changes: Mapping[Location, Any]) -> dict[str, Any]:
    """The student with some values set; mappings on the way are made."""
    changed = deepcopy(student)
    for place, value in changes.items():
        inside: Any = changed
        for part in place[:-1]:
            inside = inside.setdefault(part, {})
        inside[place[-1]] = value
    return changed


def _is_valid(student: dict[str, Any]) -> bool:
    try:
        StudentSpec.model_validate(student)
    except ValidationError:
        return False
    return True
