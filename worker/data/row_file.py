"""A file of rows: samples are written one after the other, and mapped when all are there: memory holds few of them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import store_errors
from distill_queue.shared.soft_labels.numerics import Array

#: Bytes that are gathered before they are written.
BUFFER_BYTES = 4_000_000


class RowFile:
    """Rows of one shape and type on the disk.

    Written, not mapped: on a full disk a mapped file would kill the process.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> None:
        """Begin a file.

        Args:
            path: of the file, which is made anew.
            dtype: of the rows' numbers, or of a record of several inputs.
            shape: of one row.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        self._path, self.dtype, self.shape = path, np.dtype(dtype), shape
        self._rows = 0
        with store_errors(path):
            self._file = path.open("wb", buffering=BUFFER_BYTES)

    def __enter__(self) -> Self:
        """Write within a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        with store_errors(self._path):
            self._file.close()

    def __len__(self) -> int:
        return self._rows

    def write(self, rows: npt.NDArray[Any]) -> None:
        """Write some more rows `[rows, *shape]`.

        Raises:
            StoreUnavailable: they cannot be written.

        """
        if rows.dtype != self.dtype or rows.shape[1:] != self.shape:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]} in a file of {self.dtype} {self.shape}")
        with store_errors(self._path):
            self._file.write(np.ascontiguousarray(rows).view(np.uint8).data if rows.size else b"")
        self._rows += len(rows)

    def mapped(self) -> Array:
        """All rows, mapped as they lie on the disk.

        Raises:
            StoreUnavailable: the last ones cannot be written.

        """
        with store_errors(self._path):
            self._file.flush()
        if not self._rows:
            return np.empty((0, *self.shape), self.dtype)
        return np.asarray(np.memmap(self._path, self.dtype, "r", shape=(self._rows, *self.shape)))
