"""Stored tensors: where the numbers of weights lie in files, and the bytes of safetensors that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from distill_queue.shared.files.files import opened
from distill_queue.shared.files.weights_file import Tensor

#: Bytes that are read and passed on at once.
PIECE_BYTES = 16_777_216
#: Bytes of a number of each type that safetensors and torch both have. The order is that in which the library writes
#: tensors: the last ones first, so that all begin at a multiple of their size.
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
_ORDER = {dtype: -place for place, dtype in enumerate(SIZES)}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor, and where its numbers lie."""

    tensor: Tensor
    path: Path
    #: Byte of the file at which the first number lies.
    start: int
    #: Numbers from one to the next, in each dimension; as of a row after the other where nothing is said.
    strides: tuple[int, ...] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of its numbers, one after the other."""
        return prod(self.tensor.shape) * SIZES[self.tensor.dtype]

    @property
    def span(self) -> int:
        """Numbers from the first to the last one in the file, with those between that belong to others."""
        if not prod(self.tensor.shape):
            return 0
        return 1 + sum((length - 1) * step for length, step in zip(self.tensor.shape, self._strides, strict=True))

    @property
    def _strides(self) -> tuple[int, ...]:
        return _in_rows(self.tensor.shape) if self.strides is None else self.strides

    @property
    def _is_in_rows(self) -> bool:
        """Whether its numbers lie one after the other, in the order of rows; the step over one number says nothing."""
        pairs = zip(self.tensor.shape, self._strides, _in_rows(self.tensor.shape), strict=True)
        return all(length < 2 or step == wanted for length, step, wanted in pairs)

    def pieces(self) -> Iterator[bytes]:
        """Its numbers in the order of rows, as bytes.

        Raises:
            EOFError: the file has become shorter.
            OSError, NoFile: it cannot be read.

        """
        if not (size := self.span * SIZES[self.tensor.dtype]):
            return
        if self._is_in_rows:
            yield from pieces_of(self.path, self.start, size)
            return
        import numpy as np  # A client that lists pipelines need not load it.

        numbers = np.frombuffer(b"".join(pieces_of(self.path, self.start, size)), f"V{SIZES[self.tensor.dtype]}")
        steps = [step * numbers.itemsize for step in self._strides]
        yield np.lib.stride_tricks.as_strided(numbers, self.tensor.shape, steps, writeable=False).tobytes()


def pieces_of(path: Path, start: int, size: int) -> Iterator[bytes]:
    """Some bytes of a file, piece by piece.

    Raises:
        EOFError: it ends before.
        OSError, NoFile: it cannot be read.

    """
    with opened(path) as file:
        file.seek(start)
        while size:
            piece = file.read(min(size, PIECE_BYTES))
            if not piece:
                raise EOFError
            size -= len(piece)
            yield piece


def safetensors_of(stored: Mapping[str, StoredTensor]) -> Iterator[bytes]:
    """The bytes of a safetensors file of some tensors: those that the library writes, of any number of them.

    Raises:
        EOFError, OSError, NoFile: as for `StoredTensor.pieces`.

    """
    names = sorted(stored, key=lambda name: (_ORDER[stored[name].tensor.dtype], name.encode()))
    header, end = {}, 0
    for name in names:
        start, end = end, end + stored[name].size_bytes
        tensor = stored[name].tensor
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (start, end)}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield from stored[name].pieces()


def _in_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor whose numbers lie one after the other."""
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))
