"""A section: what is run together, and the tables that are made of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reproduce.figures import Outcome, SectionFigures
from benchmarks.reproduce.workplace import Workplace

#: Makes the text between two markers; a text of several lines is a block.
Table = Callable[[SectionFigures], str]


@dataclass(frozen=True, slots=True)
class Section:
    """What is run together."""

    name: str
    #: The specs that it runs, in order.
    specs: Callable[[], list[Path]]
    #: Runs one of them, and yields what came out; each outcome is written down at once.
    measure: Callable[[Path, Workplace], Iterator[Outcome]]
    #: The tables by the names of their markers, which begin with the section's.
    tables: dict[str, Table]
