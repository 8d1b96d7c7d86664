"""Columns: what of a table becomes which input of a model, fixed from the training rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.worker.data.tables.rows import Rows

#: Categories that a column may have.
MOST_CATEGORIES = 100
#: Rows below which whole numbers may well be in order by chance: of ten rows in 1 of 2 million tables.
FEWEST_NUMBERED = 10
#: Beyond it float64 does not hold each whole number.
LARGEST_NUMBER = 2**53
#: A number with a comma between thousands; "1,000" could be 1 with three decimals, which is seldom.
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
#: Characters of a value in a message.
MOST_SHOWN = 40

Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, and the columns of the inputs that are made of it."""

    name: str
    kind: Literal["number", "boolean", "category"]
    #: Of a category: its values, each of which becomes an input of 0 and 1.
    categories: tuple[str, ...] = ()
    #: What stands for a missing value in each of its inputs; nothing where missing values are refused.
    mean: tuple[float, ...] = ()

    @classmethod
    def of(cls, rows: Rows, whole: Rows, name: str, *, category: bool) -> Self:
        """A column as the training rows have it.

        Args:
            rows: the training rows.
            whole: all rows of the file that they stand in.
            name: of the column.
            category: whether its values are names, even if they look like numbers.

        Raises:
            InvalidSpec: no input can be made of it.

        """
        column = rows.column(name)
        if column.null_count == len(column):
            raise InvalidSpec(f"{rows.called}: column '{name}' is empty in all training rows: leave_out: [{name}]")
        if not pa.types.is_large_string(column.type):
            return cls(name, "boolean" if pa.types.is_boolean(column.type) else "number")
        categories = tuple(sorted(set(column.unique().to_pylist()) - {None}))
        if not category:
            _require_no_numbers(whole, name)
        if len(categories) > MOST_CATEGORIES:
            raise InvalidSpec(
                f"{rows.called}: column '{name}' has {len(categories):,} different texts, as {_shown(categories[0])}, "
                f"and {MOST_CATEGORIES} are the most: if it is an id or a remark, add leave_out: [{name}]"
            )
        return cls(name, "category", categories)

    @property
    def inputs(self) -> list[str]:
        """The names of its inputs."""
        return [f"{self.name} = {each}" for each in self.categories] or [self.name]

    @property
    def facts(self) -> dict[str, Any]:
        """What `columns.json` says of it."""
        of_kind = {"categories": list(self.categories)} if self.kind == "category" else {}
        return {"name": self.name, "kind": self.kind, **of_kind, **({"mean": list(self.mean)} if self.mean else {})}

    def completed_by(self, inputs: Inputs) -> Self:
        """The same column, whose missing values become the mean of inputs `[rows, inputs]`."""
        return replace(self, mean=tuple(np.nanmean(inputs.astype(np.float64), axis=0).tolist()))

    def encode(self, rows: Rows) -> tuple[Inputs, int]:
        """The inputs `[rows, inputs]` of some rows, and how many of their values were no category that it has.

        Missing values become the mean, or NaN where there is none.

        Raises:
            InvalidSpec: a value is no number, or none that float32 holds.

        """
        column = rows.column(self.name)
        missing = rows.missing(self.name)
        if self.kind == "category":
            known = pa.array(self.categories, pa.large_string())
            places = compute.index_in(column.cast(pa.large_string()), value_set=known, skip_nulls=True)
            numbers = places.fill_null(-1).to_numpy()
            inputs = (numbers[:, None] == np.arange(len(self.categories))).astype(np.float32)
            unknown = int(((numbers < 0) & ~missing).sum())
        else:
            inputs, unknown = self._numbers(rows, column)[:, None], 0
        inputs[missing] = self.mean or np.nan
        return inputs, unknown

    def _numbers(self, rows: Rows, column: Any) -> Inputs:
        """The numbers `[rows]` of a column."""
        if pa.types.is_large_string(column.type):
            texts = column.to_pylist()
            place = next((row for row, text in enumerate(texts) if text is not None and not _is_number(text)), 0)
            raise InvalidSpec(
                f"{rows.at(place)}: '{self.name}' is {_shown(texts[place])}, and a number in the training rows"
            )
        # Of whole numbers from 2**53 on the last digits are lost, as in float32 of far smaller ones.
        is_bits = pa.types.is_boolean(column.type)
        values = _bits(column) if is_bits else column.cast(pa.float64(), safe=False).to_numpy()
        wrong = ~np.isnan(values) & ~(np.abs(values) <= np.finfo(np.float32).max)
        if wrong.any():
            place = int(wrong.argmax())
            raise InvalidSpec(f"{rows.at(place)}: '{self.name}' is {values[place]:g}, which is more than float32 holds")
        return values.astype(np.float32)


def counts_rows(rows: Rows, name: str) -> bool:
    """Whether a column may be nothing but the number of each row.

    So are whole numbers, all different, that rise or fall from row to row, or that follow one another in any order.
    """
    column = rows.column(name).drop_null()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or len(column) < FEWEST_NUMBERED:
        return False
    values = column.to_numpy()
    if not (np.abs(values) < LARGEST_NUMBER).all() or (values != np.floor(values)).any():
        return False
    steps, gaps = np.diff(whole := values.astype(np.int64)), np.diff(np.sort(whole))
    return bool((steps > 0).all() or (steps < 0).all() or (gaps == 1).all())


def _bits(column: Any) -> npt.NDArray[np.float64]:
    bits: npt.NDArray[np.float64] = column.cast(pa.int8()).cast(pa.float64()).to_numpy()
    return bits


def _require_no_numbers(rows: Rows, name: str) -> None:
    """Refuse a column of text if most of its values are numbers: the others are marks, or a spelling of numbers.

    Raises:
        InvalidSpec: most are; the message names the first value that is none, and the way out.

    """
    categories = sorted(set(rows.column(name).unique().to_pylist()) - {None})
    others = [each for each in categories if not _is_number(each)]
    if len(others) * 2 >= len(categories):
        grouped = [each for each in categories if GROUPED.fullmatch(each)]
        if len(grouped) * 2 > len(categories):
            raise InvalidSpec(
                f"{rows.called}: column '{name}' is text, as {grouped[0]!r}: if these are numbers, write them without "
                "a comma between thousands"
            )
        commas = [each for each in categories if _is_number(each.replace(",", ".", 1))]
        if len(commas) * 2 > len(categories):
            raise InvalidSpec(
                f"{rows.called}: column '{name}' is text, as {commas[0]!r}: if these are numbers, add decimal: ','"
            )
        return
    if not others:  # Numbers in quotation marks, which JSON tells apart.
        raise InvalidSpec(
            f"{rows.called}: column '{name}' has numbers as text: write them as numbers, or add categories: [{name}]"
        )
    place = rows.column(name).to_pylist().index(others[0])
    raise InvalidSpec(
        f"{rows.at(place)}: '{name}' is {_shown(others[0])}, and a number in most rows: if that "
        f"stands for a missing value, add missing_marks: [{others[0]!r}]; if the numbers are names, add categories: "
        f"[{name}]"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _shown(text: str) -> str:
    return shortened(repr(text), MOST_SHOWN)
