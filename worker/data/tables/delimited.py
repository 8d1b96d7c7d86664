"""Delimited text: tables as CSV and TSV, with the line of whatever is wrong."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.shared.spec.sources.in_tables import SourceInTables
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.text_stream import TextStream, lines, parsed
from distill_queue.worker.machine.runtime import Report

#: Characters of a line that a message shows.
MOST_SHOWN = 60
#: What else may separate values, for a hint.
SEPARATORS = {";": "';'", "\t": "'\\t'", "|": "'|'", ",": "','"}


@dataclass(frozen=True, slots=True)
class Delimited:
    """How a table is written as text."""

    separator: str
    decimal: str
    encoding: str
    #: Names of the columns; none where the first line has them.
    columns: tuple[str, ...]
    #: What stands for a missing value, beside nothing.
    marks: tuple[str, ...]

    @classmethod
    def of(cls, dataset: SourceInTables, suffix: str, decimal: str = ".", marks: tuple[str, ...] = ()) -> Delimited:
        """How a spec says that files of a kind are written."""
        separator = dataset.separator or ("\t" if suffix == ".tsv" else ",")
        return cls(separator, decimal, dataset.encoding, dataset.columns, marks)

    def read(self, place: Path, called: str, as_text: Collection[str], report: Report) -> Rows:
        """Read a file.

        Args:
            place: the file.
            called: what messages call it.
            as_text: the columns whose values are text, whatever they look like.
            report: called with how far it is; what it raises ends the reading.

        Raises:
            InvalidSpec: it cannot be read; the message says in which line, and why.

        """
        table, stream = parsed(place, called, self.encoding, partial(self._parse, as_text), report)
        if not stream.has_text:
            raise InvalidSpec(f"{called}: is empty")
        failed = isinstance(table, pa.ArrowException)
        if failed or stream.quotation_marks % 2:  # What stands behind an open quotation mark is one value for pyarrow.
            self._require_closed(place, called)
        if failed:
            if stream.has_zeros:
                raise InvalidSpec(f"{called}: is no text: it has bytes that are 0, as packed files and others have")
            self._explain(place, called)
            raise InvalidSpec(f"{called}: {table}") from table
        names = [name.strip() for name in table.column_names]
        if len(names) == 1:
            self._require_separated(names[0], place, called)
        return Rows.of(table.rename_columns(names), called, partial(self._line_of, place, called), self.marks)

    def _parse(self, as_text: Collection[str], stream: TextStream, block_bytes: int) -> Any:
        """The table in a stream."""
        return arrow_csv.read_csv(
            pa.PythonFile(stream, "r"),
            arrow_csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=self.columns or None),
            arrow_csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                null_values=[*arrow_csv.ConvertOptions().null_values, *self.marks],
                column_types=dict.fromkeys(as_text, pa.string()),
                decimal_point=self.decimal,
            ),
        )

    def _records(self, place: Path, called: str) -> Iterator[tuple[int, list[str]]]:
        """Each line that is not empty, with the number of the first of its lines in the file."""
        with lines(place, called, self.encoding) as text:
            reader = csv.reader(text, delimiter=self.separator, strict=False)
            line = 1
            try:
                for record in reader:
                    if record:
                        yield line, record
                    line = reader.line_num + 1
            except csv.Error as error:
                raise InvalidSpec(f"{called}, line {line:,}: {error}") from error

    def _line_of(self, place: Path, called: str, row: int) -> str:
        """Where a row stands. The file is read again: this is only asked of a row that something is wrong with."""
        numbers = (line for line, _ in self._records(place, called))
        line = next(islice(numbers, row + (not self.columns), None), None)
        return f"row {row + 1:,}" if line is None else f"line {line:,}"

    def _explain(self, place: Path, called: str) -> None:
        """Say which line does not have as many values as there are columns.

        Raises:
            InvalidSpec: there is one.

        """
        wanted = len(self.columns)
        for line, record in self._records(place, called):
            if not wanted:
                wanted = len(record)
                if wanted == 1:
                    self._require_separated(record[0], place, called)
            elif len(record) != wanted:
                start = shortened(self.separator.join(record), MOST_SHOWN)
                raise InvalidSpec(
                    f"{called}, line {line:,}: {len(record):,} values, where there are {wanted:,} columns: {start!r}"
                )

    def _require_separated(self, header: str, place: Path, called: str) -> None:
        """Refuse a table of one column whose name has another separator in it.

        Raises:
            InvalidSpec: it has.

        """
        with lines(place, called, self.encoding) as text:
            first = next(text, "") if self.columns else header
        for other, shown in SEPARATORS.items():
            if other != self.separator and other in first:
                raise InvalidSpec(
                    f"{called}: has one column, {shortened(header, MOST_SHOWN)!r}: perhaps separator: {shown}"
                )

    def _require_closed(self, place: Path, called: str) -> None:
        """Refuse a file that ends within a value in quotation marks.

        Raises:
            InvalidSpec: it does; the message says where the value begins.

        """
        with lines(place, called, self.encoding) as text:
            line, reader = 1, csv.reader(text, delimiter=self.separator, strict=True)
            try:
                for _ in reader:
                    line = reader.line_num + 1
            except csv.Error as error:
                if "unexpected end of data" in str(error) or "larger than field limit" in str(error):
                    reason = "a quotation mark is opened and never closed"
                    raise InvalidSpec(f"{called}, line {line:,}: {reason}") from error
