"""Samples one by one: a `Dataset` or a generator of the user's own, read into a file that is mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data import records
from distill_queue.worker.data.row_file import RowFile
from distill_queue.worker.machine.runtime import Report

#: Samples between two reports.
REPORTED = 1_000


def is_one_by_one(given: object) -> bool:
    """Whether samples are given one by one, and not as arrays of inputs and of targets."""
    return isinstance(given, Dataset | Iterator | DataLoader)


def read(whose: str, given: Any, path: Path, report: Report) -> tuple[Array, list[Any]]:
    """The inputs `[samples, *shape]`, or records of several inputs, and the targets, as they are given.

    Args:
        whose: how messages begin.
        given: a `Dataset`, or an iterator of pairs of inputs and target.
        path: of the file for the inputs.
        report: called now and then.

    Raises:
        InvalidSpec: it gives no pairs, or samples of several shapes.
        StoreUnavailable: the file cannot be written.

    """
    if isinstance(given, DataLoader):
        raise InvalidSpec(f"{whose}: return the Dataset itself, as its DataLoader gives batches in an order of its own")
    targets: list[Any] = []
    file: RowFile | None = None
    with ExitStack() as opened:
        for number, sample in enumerate(_samples(given)):
            if not (isinstance(sample, tuple | list) and len(sample) == 2):
                raise InvalidSpec(f"{whose}: sample {number:,} is no pair of inputs and target")
            row = _row(f"{whose}: sample {number:,}", sample[0])
            if file is None:
                file = opened.enter_context(RowFile(path, row.dtype, row.shape[1:]))
            if (row.dtype, row.shape[1:]) != (file.dtype, file.shape):
                raise InvalidSpec(
                    f"{whose}: sample {number:,} is {_described(row.dtype, row.shape[1:])}, and sample 0 "
                    f"{_described(file.dtype, file.shape)}: make them one; text and series are padded"
                )
            file.write(row)
            targets.append(sample[1])
            if number % REPORTED == 0:
                report(f"reading, {number:,} samples")
        if file is None:
            raise InvalidSpec(f"{whose}: has no samples")
        return file.mapped(), targets


def _samples(given: Any) -> Iterable[Any]:
    """All samples in order; of what has a length, by number, as Python would go on until an `IndexError`."""
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return (given[number] for number in range(len(given)))
    return iter(given)


def _row(whose: str, inputs: Any) -> Array:
    """One sample as a row `[1, *shape]`, or as one record."""
    if isinstance(inputs, Mapping):
        return records.laid_together(whose, {name: _row(f"{whose} {name}", value) for name, value in inputs.items()})
    row: Array = np.asarray(inputs)
    if hasattr(inputs, "getbands"):  # An image of Pillow's, whose channels are last.
        row = row.transpose(2, 0, 1) if row.ndim == 3 else row[None]
    if row.dtype.kind not in "uifb":
        raise InvalidSpec(f"{whose} is {type(inputs).__name__}, not numbers")
    return row[None]


def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Type and shape in words."""
    if dtype.names is None:
        return f"{dtype} {list(shape)}"
    return " and ".join(f"{name} {dtype[name].base} {list(dtype[name].shape)}" for name in dtype.names)
