"""A listing: a table that may be long, printed as lines in columns.

Rich's tables are made for a screenful: each cell takes 0.1 ms of a core, which is 4 s for 5,000 artifacts, and the
first row is printed only when the last one is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Span, Text

#: What stands between two columns.
GAP = "  "
#: The fewest characters of a column that folds for lack of room.
NARROWEST = 16
#: Rows that are printed at once.
PAGE_ROWS = 200


@dataclass(slots=True)
class Column:
    """A column: as wide as its name, or wider."""

    name: str
    #: Characters of its widest cell, if known before; a wider cell shifts the rest of its line.
    width: int = 0
    right: bool = False
    #: Whether cells fold: go on in the next line if there is no room.
    folds: bool = False
    #: The style of cells by their text.
    styles: Mapping[str, str] = field(default_factory=dict)


def print_listing(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below the columns' names; columns are as wide as their first page of rows needs, or as they say.

    A last column that folds may take all the room.
    """
    left, names = iter(rows), [column.name for column in columns]
    page = list(islice(left, PAGE_ROWS))
    for row in (names, *page):
        for column, cell in zip(columns, row, strict=True):
            column.width = max(column.width, width_of(cell))
    _narrow(columns, console.width)
    console.print(_page([names], columns, console), style="bold", soft_wrap=True)
    while page:
        console.print(_page(page, columns, console), soft_wrap=True)
        page = list(islice(left, PAGE_ROWS))


def width_of(cell: str) -> int:
    """Columns of a terminal that a cell takes."""
    # Hardly any cell has other characters, whose widths are looked up one by one.
    return len(cell) if cell.isascii() and cell.isprintable() else cell_len(cell)


def _narrow(columns: Sequence[Column], room: int) -> None:
    """Make columns that fold narrower until all columns have room, if possible."""
    last = columns[-1]
    excess = sum(column.width for column in columns) + len(GAP) * (len(columns) - 1) - room
    if last.folds and excess < 0:
        last.width -= excess
    folding = [column for column in columns if column.folds]
    for _ in range(excess if folding else 0):
        widest = max(folding, key=lambda column: column.width)
        widest.width -= widest.width > NARROWEST


def _page(rows: Iterable[Sequence[str]], columns: Sequence[Column], console: Console) -> Text:
    """Rows as lines: one line for each, or several if a cell folds."""
    lines, spans, place = list[str](), list[Span](), 0
    for row in rows:
        folded = [_folded(cell, column, console) for cell, column in zip(row, columns, strict=True)]
        for cells in zip_longest(*folded, fillvalue=""):
            line = ""
            for cell, column in zip(cells, columns, strict=True):
                room = " " * (column.width - width_of(cell))
                if style := column.styles.get(cell):
                    start = place + len(line) + (len(room) if column.right else 0)
                    spans.append(Span(start, start + len(cell), style))
                line += (f"{room}{cell}" if column.right else f"{cell}{room}") + GAP
            lines.append(line.rstrip())
            place += len(lines[-1]) + 1
    return Text("\n".join(lines), spans=spans)


def _folded(cell: str, column: Column, console: Console) -> list[str]:
    """The lines of a cell."""
    if not column.folds or width_of(cell) <= column.width:
        return [cell]
    return [line.plain.rstrip() for line in Text(cell).wrap(console, column.width, overflow="fold")]
