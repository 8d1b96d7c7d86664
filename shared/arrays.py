"""Arrays: `.npy` files, read and written so that an error of the disk stays one.

NumPy reads and writes real files through the C library, and loses its error: a disk that cannot be read is then "a file
that ends early" (ValueError), a full one "1000 requested and 0 written" (OSError without a number).
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from shared.errors import store_errors

Array = npt.NDArray[Any]


def read_array(path: Path) -> Array:
    """Read an array; never a pickled one.

    Raises:
        StoreUnavailable: the file cannot be read.
        ValueError: it is no `.npy` file, or ends early.

    """
    with store_errors(path), path.open("rb") as file:
        array: Array = np.lib.format.read_array(_ThroughPython(file), allow_pickle=False)
    return array


def map_array(path: Path) -> Array:
    """Map an array, so that its rows are read as they are used.

    Raises:
        StoreUnavailable: the file cannot be read.
        ValueError: it is no `.npy` file, or ends early.

    """
    with store_errors(path):
        return np.asarray(np.load(path, mmap_mode="r"))


def write_array(path: Path, array: Array) -> None:
    """Write an array, the same bytes as `numpy.save`.

    Raises:
        StoreUnavailable: the file cannot be written.

    """
    with store_errors(path), path.open("wb") as file:
        np.lib.format.write_array(_ThroughPython(file), array, allow_pickle=False)


class _ThroughPython:
    """A file that NumPy does not know as one of the system's."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.write = file.read, file.write
