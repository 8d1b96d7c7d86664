"""The soft-label file format: writer and numpy reader, usable without the rest of the project."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ArtifactDamaged, InvalidInput

HEADER = "soft_labels.json"
LOGITS = "logits.bin"
#: Rows under one checksum.
BLOCK_ROWS = 8_192

Dtype = Literal["float16", "float32"]


class SoftLabelsHeader(BaseModel):
    """What stands in `soft_labels.json` beside the raw little-endian `logits.bin [views, samples, classes]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["distill-soft-labels"] = "distill-soft-labels"
    version: Literal[1] = 1
    layout: Literal["dense"] = "dense"
    dtype: Dtype
    views: int = Field(ge=1, strict=True)
    samples: int = Field(ge=1, strict=True)
    class_names: tuple[str, ...] = Field(min_length=1)
    dataset_key: str
    teacher_key: str
    #: What makes a view of a sample, as in the spec; nothing where there is one view, the sample itself.
    augmentation: dict[str, int | float | bool] = {}
    block_rows: int = Field(default=BLOCK_ROWS, ge=1, strict=True)
    #: SHA-256 of each block of rows, view after view.
    checksums: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(views, samples, classes)`."""
        return self.views, self.samples, len(self.class_names)

    @property
    def size_bytes(self) -> int:
        """Bytes of `logits.bin`."""
        return math.prod(self.shape) * _stored(self.dtype).itemsize


class SoftLabels:
    """A memory-mapped cache of logits; row i belongs to sample i of the data set."""

    def __init__(self, folder: Path, header: SoftLabelsHeader) -> None:
        self.folder = folder
        self.header = header
        #: `[views, samples, classes]`, before softmax.
        self.logits = np.memmap(folder / LOGITS, _stored(header.dtype), "r", shape=header.shape)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a cache.

        Raises:
            ArtifactDamaged: the header or the length of the data is not right.

        """
        try:
            header = SoftLabelsHeader.model_validate_json((folder / HEADER).read_bytes())
            if (size_bytes := (folder / LOGITS).stat().st_size) != header.size_bytes:
                raise ValueError(f"{LOGITS} has {size_bytes:,} bytes instead of {header.size_bytes:,}")
            return cls(folder, header)
        except (OSError, ValueError, ValidationError) as error:
            raise ArtifactDamaged(f"{folder}: no soft labels of this version: {error}") from error

    def require(self, *, dataset_key: str, class_names: tuple[str, ...]) -> None:
        """Refuse labels that were made for other data.

        Raises:
            InvalidInput: the message says what differs.

        """
        if self.header.dataset_key != dataset_key:
            raise InvalidInput(
                f"{self.folder}: made for data set {self.header.dataset_key[:8]}, not for {dataset_key[:8]}"
            )
        if self.header.class_names != class_names:
            raise InvalidInput(f"{self.folder}: its classes are not those of the data set")

    def batch(self, indices: npt.NDArray[np.integer[Any]], view: int = 0) -> npt.NDArray[np.float32]:
        """Logits of some samples, `[batch, classes]`, float32."""
        return np.asarray(self.logits[view, indices], dtype=np.float32)

    def verify(self) -> None:
        """Compare every block with its checksum.

        Raises:
            ArtifactDamaged: a block differs; the message says which.

        """
        if _checksums(self.logits, self.header.block_rows) != self.header.checksums:
            raise ArtifactDamaged(f"{self.folder / LOGITS}: a block differs from its checksum")


class SoftLabelsWriter:
    """Writes a cache row by row and seals it once every row was written exactly once."""

    def __init__(self, folder: Path, header: SoftLabelsHeader) -> None:
        self._folder = folder
        self._header = header
        _take_room(folder / LOGITS, header.size_bytes)
        self._logits = np.memmap(folder / LOGITS, _stored(header.dtype), "r+", shape=header.shape)
        self._written = np.zeros(header.shape[:2], dtype=bool)

    def write(self, start: int, logits: npt.NDArray[np.float32], view: int = 0) -> None:
        """Store logits `[rows, classes]` of the samples from `start` on.

        Raises:
            InvalidInput: a logit does not fit the type, or a row is written twice.

        """
        rows = slice(start, start + len(logits))
        if self._written[view, rows].any():
            raise InvalidInput(f"soft labels: rows from {start} on were written before")
        limit = np.finfo(self._header.dtype).max
        if not (np.abs(logits) <= limit).all():
            raise InvalidInput(
                f"soft labels: a logit among the rows from {start} on is not finite or too large for "
                f"{self._header.dtype}: use soft_labels: {{dtype: float32}} or look at the teacher"
            )
        self._logits[view, rows] = logits
        self._written[view, rows] = True

    def seal(self) -> SoftLabelsHeader:
        """Write the header with the checksums.

        Raises:
            InvalidInput: a row was never written.

        """
        if not self._written.all():
            view, sample = np.argwhere(~self._written)[0]
            raise InvalidInput(f"soft labels: sample {sample} of view {view} was never written")
        self._logits.flush()
        header = self._header.model_copy(update={"checksums": _checksums(self._logits, self._header.block_rows)})
        (self._folder / HEADER).write_text(header.model_dump_json(indent=1))
        return header


def _take_room(path: Path, size_bytes: int) -> None:
    """Make a file of a size: writing to a mapped file on a full disk would kill the process instead of raising."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _stored(dtype: Dtype) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


def _checksums(logits: np.memmap[Any, Any], block_rows: int) -> tuple[str, ...]:
    return tuple(
        hashlib.sha256(view[start : start + block_rows].tobytes()).hexdigest()
        for view in logits
        for start in range(0, len(view), block_rows)
    )
