"""IDX files, the format of MNIST and of the sets that are made like it: found and read, packed with gzip or not."""

from __future__ import annotations

import gzip
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill_queue.worker.data.arrays import Arrays

#: The files of MNIST and of its like: images and labels of the training and of the test samples.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
#: How a file begins that holds unsigned bytes; the number of dimensions is added.
_MAGIC = 0x0800

Bytes = npt.NDArray[np.uint8]


def find(folder: Path) -> list[Path] | None:
    """The four files in a folder, in the order of `FILES`, packed or not; None if one is absent."""
    found = [_file(folder / name) for name in FILES]
    return [path for path in found if path] if all(found) else None


def read(path: Path) -> Bytes:
    """The bytes in a file, in the dimensions that it says; gzip where its name ends in `.gz`.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read, or unpacked.
        ValueError: it is no IDX file of bytes, or is not as long as it says.

    """
    data = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    dimensions = int.from_bytes(data[:4]) - _MAGIC
    header_bytes = 4 * (1 + dimensions)
    if not 1 <= dimensions <= 4 or len(data) < header_bytes:
        raise ValueError(f"{path.name} is no IDX file of bytes")
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4).tolist()
    if len(data) - header_bytes != prod(shape):
        raise ValueError(f"{path.name} should have {prod(shape):,} values, and has {len(data) - header_bytes:,}")
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def read_set(files: list[Path], names: tuple[str, ...]) -> Arrays:
    """The data set in four files, in the order of `FILES`; raises as `read`."""
    train, train_labels, test, test_labels = map(read, files)
    return Arrays(train[:, None], train_labels.astype(np.int64), test[:, None], test_labels.astype(np.int64), names)


def write(path: Path, values: Bytes) -> None:
    """Write a file, not packed."""
    header = np.array([_MAGIC + values.ndim, *values.shape], dtype=">u4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(values).tobytes())


def _file(path: Path) -> Path | None:
    packed = path.with_name(f"{path.name}.gz")
    return next((each for each in (path, packed) if each.is_file()), None)
