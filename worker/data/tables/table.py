"""The table of a data set: its parts, its classes, and the columns that models see."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.tables.columns import Column, counts_rows
from distill_queue.worker.data.tables.labels import labels_of
from distill_queue.worker.data.tables.parts import called, files_of
from distill_queue.worker.data.tables.read import read_rows
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.samples import Samples
from distill_queue.worker.machine.runtime import Report

#: The file in the artifact that says how inputs are made of a row.
COLUMNS = "columns.json"
#: Version of that file.
COLUMNS_FORMAT = 1
#: Columns that a message names one by one.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read, its rows without those that are dropped."""

    dataset: TableSpec
    parts: dict[str, Rows]
    #: The names of the columns that models see.
    features: tuple[str, ...]
    #: How many values are missing, by column, and how many rows were dropped for it.
    missing: dict[str, int]
    dropped: int

    @classmethod
    def read(cls, dataset: TableSpec, place: Path, report: Report) -> Self:
        """Read all parts of a table.

        Args:
            dataset: says what of it is read.
            place: the file or folder.
            report: called with how far it is; what it raises ends the reading.

        Raises:
            InvalidSpec: one cannot be read, lacks a column, or has missing values that the spec does not expect.

        """
        parts = _parts(dataset, place, report)
        first = next(iter(parts.values()))
        features = _features(dataset, first)
        for name, rows in parts.items():
            for column in features if name == "unlabelled" else (dataset.target, *features):
                rows.require(column, "target" if column == dataset.target else "features")
        missing, dropped = dict[str, int](), 0
        for name, rows in parts.items():
            lacking = {column: rows.missing(column) for column in features}
            if name == next(iter(parts)):
                _require_filled(rows, lacking)
            any_lacking = np.any(list(lacking.values()), axis=0)
            if any_lacking.any() and dataset.missing == "refuse":
                place_of_first = int(any_lacking.argmax())
                column = next(column for column, where in lacking.items() if where[place_of_first])
                raise InvalidSpec(_refused(rows, place_of_first, column, lacking))
            for column, where in lacking.items():
                if where.any():
                    missing[column] = missing.get(column, 0) + int(where.sum())
            if dataset.missing == "drop" and any_lacking.any():
                if any_lacking.all():
                    raise InvalidSpec(f"{rows.called}: in each row a value is missing: drop leaves none")
                dropped += int(any_lacking.sum())
                parts[name] = rows.chosen(~any_lacking)
        return cls(dataset, parts, features, missing, dropped)

    def encoded(self, content: str) -> Arrays:
        """The table as arrays.

        Raises:
            InvalidSpec: it is no classification, or a column cannot be encoded.

        """
        class_names, targets = labels_of(self.parts, self.dataset.target)
        samples = Samples.of(self.parts, targets)
        columns, inputs, unknown = self._inputs(samples)
        arrays = samples.arrays(self.dataset.path, inputs, class_names)
        return replace(
            arrays,
            content=content,
            warnings=(*arrays.warnings, *self._warnings(unknown)),
            input_names=tuple(name for column in columns for name in column.inputs),
            files={COLUMNS: self._described(columns, class_names)},
        )

    def _inputs(self, samples: Samples) -> tuple[list[Column], dict[str, Array], dict[str, int]]:
        """The columns, the inputs `[rows, inputs]` of each part, and how many values of a column are unknown."""
        columns: list[Column] = []
        encoded: dict[str, list[Array]] = {part: [] for part in samples.parts}
        unknown: dict[str, int] = {}
        for name in self.features:
            whole = next(iter(self.parts.values()))
            column = Column.of(samples.parts["train"], whole, name, category=name in self.dataset.categories)
            if self.dataset.missing == "mean":
                column = column.completed_by(column.encode(samples.parts["train"])[0])
            for part, rows in samples.parts.items():
                inputs, unknown_here = column.encode(rows)
                encoded[part].append(inputs)
                if unknown_here:
                    unknown[name] = unknown.get(name, 0) + unknown_here
            columns.append(column)
        return columns, {part: np.concatenate(inputs, axis=1) for part, inputs in encoded.items()}, unknown

    def _warnings(self, unknown: dict[str, int]) -> Iterator[DataWarning]:
        if self.missing:
            count = sum(self.missing.values())
            values = f"{count:,} missing value{'s' if count > 1 else ''} in {_named(_most_first(self.missing))}"
            done = f": {_rows_were(self.dropped)} dropped" if self.dropped else ": the training rows' mean is taken"
            yield DataWarning(kind="missing_values", text=values + done)
        if unknown:
            text = (
                f"{sum(unknown.values()):,} values in {_named(_most_first(unknown))} are none of the categories in the "
                "training rows: their inputs are all 0"
            )
            yield DataWarning(kind="unknown_categories", text=text)
        rows = next(iter(self.parts.values()))
        numbers = [name for name in self.features if name not in self.dataset.categories and counts_rows(rows, name)]
        if numbers:
            they = f"column {_named(numbers)} counts" if len(numbers) == 1 else f"columns {_named(numbers)} count"
            way = "take it out of features" if self.dataset.features else f"leave_out: [{', '.join(numbers)}]"
            text = f"{they} the rows, as far as one can see, and of a new row such a number tells nothing: {way}"
            yield DataWarning(kind="row_numbers", text=text)

    def _described(self, columns: list[Column], class_names: tuple[str, ...]) -> bytes:
        """What `columns.json` holds."""
        facts: dict[str, Any] = {
            "format": COLUMNS_FORMAT,
            "target": self.dataset.target,
            "classes": list(class_names),
            "columns": [column.facts for column in columns],
        }
        return (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode()


def _parts(dataset: TableSpec, place: Path, report: Report) -> dict[str, Rows]:
    """The rows of each part; what is text in the first is text in the others."""
    parts: dict[str, Rows] = {}
    as_text = set(dataset.categories)
    for part, file in files_of(dataset, place).items():
        name, marks = called(dataset, part, file), dataset.missing_marks
        parts[part] = read_rows(
            dataset, file, as_text, called=name, decimal=dataset.decimal, marks=marks, report=report
        )
        if len(parts) == 1:
            features = _features(dataset, parts[part])
            as_text |= {name for name in features if parts[part].is_text(name)}
    return parts


def _features(dataset: TableSpec, rows: Rows) -> tuple[str, ...]:
    """The names of the columns that models see.

    Raises:
        InvalidSpec: the spec names a column that is not there, one has no name, or none is left.

    """
    for key in ("features", "leave_out", "categories"):
        for name in getattr(dataset, key):
            rows.require(name, key)
    rows.require(dataset.target, "target")
    features = dataset.features or tuple(
        name for name in rows.names if name != dataset.target and name not in dataset.leave_out
    )
    if not features:
        raise InvalidSpec(f"{rows.called}: has no column beside the target '{dataset.target}'")
    if "" in features:
        raise InvalidSpec(
            f"{rows.called}: a column has no name, as the index that pandas writes: write the file with index=False, "
            'or add leave_out: [""]'
        )
    if idle := [name for name in dataset.categories if name not in features]:
        raise InvalidSpec(f"dataset.categories: '{idle[0]}' is none of the features")
    return features


def _require_filled(rows: Rows, lacking: dict[str, Array]) -> None:
    """Refuse columns without any value.

    Raises:
        InvalidSpec: there are some.

    """
    if empty := [name for name, where in lacking.items() if where.all()]:
        is_are = "column {} is" if len(empty) == 1 else "columns {} are"
        raise InvalidSpec(
            f"{rows.called}: {is_are.format(_named(empty))} empty in all rows: leave_out: [{', '.join(empty)}]"
        )


def _refused(rows: Rows, place: int, column: str, lacking: dict[str, Array]) -> str:
    counts = {name: int(where.sum()) for name, where in lacking.items() if where.any()}
    values = "1 value" if sum(counts.values()) == 1 else f"{sum(counts.values()):,} values"
    of_columns = f"({values} in this file, in {_named(_most_first(counts))})"
    return (
        f"{rows.at(place)}: '{column}' is missing {of_columns}: missing: drop leaves such rows out, missing: mean "
        "takes the training rows' mean"
    )


def _most_first(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: -counts[name])


def _rows_were(count: int) -> str:
    return "1 row was" if count == 1 else f"{count:,} rows were"


def _named(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names], MOST_NAMED)
