"""What a section of a report is: text, figures, tables, images and commands."""

from __future__ import annotations

from dataclasses import dataclass

from distill_queue.shared.report.svg import Picture
from distill_queue.shared.report.trial import Trial

#: Columns of names and keys, whose cells may break anywhere on paper, like those of each table's first column.
BREAKING = frozenset(("key", "worker", "made on", "versions"))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading; all columns but the first `texts` ones hold numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    #: A few words about the first cell of each row; or nothing.
    about: tuple[str, ...] = ()
    #: The first cell of the row that is marked as the best.
    best: str = ""

    def breaks(self, column: int) -> bool:
        """Whether a column's cells may be broken anywhere."""
        return self.columns[column] in BREAKING


@dataclass(frozen=True, slots=True)
class Listing:
    """Text to be copied, shown when asked for."""

    caption: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its class, and the classes that teacher and student give it."""

    uri: str
    label: str
    teacher: str
    student: str
    #: Which of the two is right.
    right: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    title: str
    text: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    samples: tuple[Sample, ...] = ()
    commands: tuple[str, ...] = ()
    listing: Listing | None = None
    #: Models that answer in the page; one section may have some.
    trial: Trial | None = None
    #: What is not shown, and why; and what is to be known beside.
    notes: tuple[str, ...] = ()
    #: Whether the tables are long, and shown when asked for.
    folded: bool = False
