"""Array files: NumPy's `.npy`, whose header is compared with the file's length before memory is taken for the array.

NumPy reads and writes real files through the C library, and loses its error: a disk that cannot be read is then "a file
that ends early" (ValueError), a full one "1000 requested and 0 written" (OSError without a number). So NumPy is
given a wrapper, which it does not take for a file of the system.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import ArtifactDamaged, store_errors
from distill_queue.shared.files.files import opened

#: What NumPy's reader of headers raises where there is no header.
HEADER_ERRORS = (ValueError, TypeError, ArithmeticError, EOFError, SyntaxError, SystemError, MemoryError,
                 RecursionError, struct.error, tokenize.TokenError)  # fmt: skip

Array = npt.NDArray[Any]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def array_header(file: IO[bytes]) -> Header:
    """Read an array's header: its shape, whether it is in Fortran's order, and its type.

    Raises:
        HEADER_ERRORS: there is no header.

    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action="ignore"):  # About headers that Python 2 wrote, and texts that look like one.
        return read(file)


def read_array(path: Path, *, mapped: bool = False) -> Array:
    """The array in an artifact's file: in memory, or mapped as it lies on the disk.

    Raises:
        ArtifactDamaged: it is no array of numbers, or its header does not fit its length.
        StoreUnavailable: it cannot be read.

    """
    with store_errors(path):
        try:
            with opened(path) as file:
                require_honest(file, os.fstat(file.fileno()).st_size)
                if mapped:
                    return np.asarray(np.load(path, mmap_mode="r"))
                array: Array = np.lib.format.read_array(_ThroughPython(file), allow_pickle=False)
                return array
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ArtifactDamaged(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise ArtifactDamaged(f"{path}: no array: {error}") from error


def require_honest(file: IO[bytes], size_bytes: int) -> None:
    """Go back to the start of a file of some size whose header fits the bytes that follow.

    Raises:
        ValueError: there is no header, or it does not fit.

    """
    try:
        shape, _, dtype = array_header(file)
        length = size_bytes - file.tell()
        if dtype.hasobject:
            raise ValueError("holds Python's objects, which are not read: make it an array of numbers")
        if math.prod(shape) * dtype.itemsize != length:
            raise ValueError(f"its header claims {dtype} {str(shape)[:60]}, and {length:,} bytes follow")
    except HEADER_ERRORS as error:
        raise ValueError(str(error)) from error
    file.seek(0)


def write_array(path: Path, array: Array) -> None:
    """Write an array, the same bytes as `numpy.save`.

    Raises:
        StoreUnavailable: the file cannot be written.

    """
    with store_errors(path), path.open("wb") as file:
        np.lib.format.write_array(_ThroughPython(file), array, allow_pickle=False)


class _ThroughPython:
    """A wrapper of a file, which makes NumPy read and write through Python."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.write = file.read, file.write
