"""Labels: the classes in a table's target column, and the number of each row's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.tables.columns import LARGEST_NUMBER
from distill_queue.worker.data.tables.rows import Rows

#: Characters of a class's name in a message.
MOST_SHOWN = 40
#: Classes that may be as many as half of the labels, or more: there are data sets with few samples.
FEW_CLASSES = 20

Targets = npt.NDArray[np.int64]


def labels_of(parts: Mapping[str, Rows], target: str) -> tuple[tuple[str, ...], dict[str, Targets]]:
    """The names of the classes, sorted, and the number `[rows]` of each part's class, -1 where it has none.

    Numbers are sorted as numbers: the classes "3" to "10" have the numbers 0 to 7. A part `unlabelled` has no labels,
    even if it has the column.

    Raises:
        InvalidSpec: the column holds no classes, or a test or validation row has no label.

    """
    labelled = {name: rows for name, rows in parts.items() if name != "unlabelled"}
    columns = {name: _classes(rows, target) for name, rows in labelled.items()}
    if len({column.type for column in columns.values()}) > 1:  # Numbers in one file and text in another.
        columns = {name: column.cast(pa.large_string()) for name, column in columns.items()}
    for name in ("test", "validation"):
        if name in columns and columns[name].null_count:
            place = columns[name].is_null().to_numpy().argmax()
            raise InvalidSpec(
                f"{labelled[name].at(place)}: has no '{target}': only training rows may be without a label"
            )
    values = sorted({value for column in columns.values() for value in column.unique().to_pylist()} - {None})
    called = next(iter(labelled.values())).called
    if len(values) < 2:
        has = f"only one class ({shortened(repr(values[0]), MOST_SHOWN)})" if values else "no value"
        raise InvalidSpec(f"{called}: the target '{target}' has {has}: a classification needs two or more")
    labels = sum(len(column) - column.null_count for column in columns.values())
    if len(values) > max(FEW_CLASSES, labels // 2):
        raise InvalidSpec(
            f"{called}: the target '{target}' has {len(values):,} different values in {labels:,} rows, as a "
            "measurement or an id has, and no class: make classes of them, as ranges"
        )
    known = pa.array(values, next(iter(columns.values())).type)
    targets = {name: _numbers(column, known) for name, column in columns.items()}
    if "unlabelled" in parts:
        targets["unlabelled"] = np.full(len(parts["unlabelled"]), -1)
    return tuple(map(str, values)), targets


def _classes(rows: Rows, target: str) -> Any:
    """A target column as int64 or text.

    Raises:
        InvalidSpec: it holds fractions, which is a regression, or numbers of which not every digit is known.

    """
    column = rows.column(target)
    if pa.types.is_null(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_boolean(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        fractions = ~np.isnan(values) & (values != np.floor(values))
        if fractions.any():
            place = int(fractions.argmax())
            raise InvalidSpec(
                f"{rows.at(place)}: the target '{target}' is {values[place]:g}: numbers with fractions are a "
                "regression, which is not supported: make classes of them, as ranges"
            )
        _require_exact(rows, target, np.abs(values) >= LARGEST_NUMBER, values)
    if pa.types.is_uint64(column.type):
        values = column.fill_null(0).to_numpy()
        _require_exact(rows, target, values > np.iinfo(np.int64).max, values)
    return column if pa.types.is_large_string(column.type) else column.cast(pa.int64())


def _require_exact(rows: Rows, target: str, too_large: Array, values: Array) -> None:
    """Refuse classes that are too large for whole numbers.

    Raises:
        InvalidSpec: there is one; the message says where.

    """
    if too_large.any():
        place = int(too_large.argmax())
        raise InvalidSpec(
            f"{rows.at(place)}: the target '{target}' is {values[place]:g}, too large for the number of a class: name "
            "classes by text, as 'a'"
        )


def _numbers(column: Any, known: Any) -> Targets:
    places = compute.index_in(column, value_set=known, skip_nulls=True)
    numbers: Targets = places.fill_null(-1).to_numpy().astype(np.int64)
    return numbers
