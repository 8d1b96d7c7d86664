"""Rows: some of a table's rows, which know where they stand in their file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.shared.soft_labels.numerics import Array

#: Characters of what a column holds in a message.
MOST_SHOWN = 60


def require_column(called: str, names: Collection[str], name: str, key: str) -> None:
    """Refuse the name of a column that is not among those of a table.

    Raises:
        InvalidSpec: it is not; the message says what the spec calls it, and which there are.

    """
    if name not in names:
        raise InvalidSpec(f"dataset.{key}: {called} has no column '{name}'{did_you_mean(name, names)}")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table."""

    table: Any
    #: What messages call the file.
    called: str
    #: Says where a row of the file stands, as "line 3".
    where: Callable[[int], str]
    #: The texts that stand for a missing value, beside an empty one.
    marks: tuple[str, ...]
    #: The rows `[rows]` of the file that these are, from 0 on.
    numbers: Array

    @classmethod
    def of(cls, table: Any, called: str, where: Callable[[int], str], marks: tuple[str, ...]) -> Self:
        """All rows of a file.

        Raises:
            InvalidSpec: there are none, or two columns have one name.

        """
        if not table.num_rows:
            raise InvalidSpec(f"{called}: has the names of columns, and no rows")
        if twice := [name for name, count in Counter(table.column_names).items() if count > 1]:
            raise InvalidSpec(f"{called}: {Counter(table.column_names)[twice[0]]} columns are called '{twice[0]}'")
        return cls(table, called, where, marks, np.arange(table.num_rows))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self.table.column_names
        return names

    def chosen(self, which: Array) -> Self:
        """Some of these rows, by their places `[rows]` or by a mask."""
        return replace(self, table=self.table.take(np.arange(len(self))[which]), numbers=self.numbers[which])

    def at(self, place: int) -> str:
        """Where one of these rows stands, as a message says it."""
        return f"{self.called}, {self.where(int(self.numbers[place]))}"

    def require(self, name: str, key: str) -> None:
        """Refuse the name of a column that is not there.

        Raises:
            InvalidSpec: it is not; the message says what the spec calls it, and which there are.

        """
        require_column(self.called, self.names, name, key)

    def column(self, name: str) -> Any:
        """A column of text, numbers, or true and false; null where a value is missing.

        Raises:
            InvalidSpec: it holds something else.

        """
        column, kind = self.table[name], self.table.schema.field(name).type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_temporal(kind):
            raise InvalidSpec(
                f"{self.called}: column '{name}' holds dates or times: make numbers of them, as a year or the days "
                f"since a date, or add leave_out: [{name}]"
            )
        if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
            return column
        if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
            column, kind = column.cast(pa.float64()), pa.float64()
        if pa.types.is_floating(kind):
            return compute.if_else(compute.is_nan(column), None, column)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = compute.utf8_trim_whitespace(column.cast(pa.large_string()))
            return compute.if_else(compute.is_in(column, pa.array(["", *self.marks], pa.large_string())), None, column)
        shown = shortened(str(kind), MOST_SHOWN)
        raise InvalidSpec(
            f"{self.called}: column '{name}' holds {shown}, which no cell of a table is: add leave_out: [{name}]"
        )

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        return bool(pa.types.is_large_string(self.column(name).type))

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Where `[rows]` a column's value is missing."""
        missing: npt.NDArray[np.bool_] = self.column(name).is_null().to_numpy()
        return missing

    def with_text(self, names: Collection[str]) -> Self:
        """The same with columns of numbers as text."""
        table = self.table
        for name in set(names).intersection(self.names):
            column = self.column(name)
            if not pa.types.is_large_string(column.type):
                place = table.column_names.index(name)
                table = table.set_column(place, name, column.cast(pa.large_string()))
        return replace(self, table=table)
