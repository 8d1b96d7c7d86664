"""The soft-label cache: a folder of raw arrays that says what it is of; usable without the rest of the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill_queue.shared.errors import ArtifactDamaged, InvalidInput, store_errors
from distill_queue.shared.files.files import read
from distill_queue.shared.soft_labels.encoding import Column, Encoding, OutsideMass, outside_mass
from distill_queue.shared.soft_labels.numerics import Array, Floats, softmax

HEADER = "soft_labels.json"
#: Largest header that is read: with the checksums of seven million blocks.
MOST_HEADER_BYTES = 256_000_000
#: Rows under one checksum: at most these, and not more than give `BLOCK_LOGITS` logits.
BLOCK_ROWS = 1_024
BLOCK_LOGITS = 2**22

Indices = npt.NDArray[np.integer[Any]] | slice | int
Augmentation = dict[str, int | float | bool | dict[str, int | float | list[float]]]
Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class SoftLabelsHeader(BaseModel):
    """What stands in `soft_labels.json` beside the columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["distill-soft-labels"] = "distill-soft-labels"
    version: Literal[2] = 2
    views: int = Field(ge=1, strict=True)
    samples: int = Field(ge=1, strict=True)
    class_names: tuple[str, ...] = Field(min_length=2)
    encoding: Encoding
    #: Key of the data set whose row i is row i here; empty where it is not known.
    dataset_key: str
    #: Key of the teacher; empty where it is not known.
    teacher_key: str = ""
    #: What makes a view of a sample, as in the spec; nothing where there is one view, the sample itself.
    augmentation: Augmentation = {}
    #: Fingerprint of the random numbers that made the views; empty without an augmentation.
    augmentation_fingerprint: str = ""
    block_rows: int = Field(ge=1, strict=True)
    #: XXH3 (128 bits, seed 0) of each block of rows, all columns of it one after the other; view after view.
    checksums: tuple[Checksum, ...] = ()
    #: XXH3 of this header without this field, as compact JSON with sorted keys.
    checksum: str = ""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def blocks_per_view(self) -> int:
        """Blocks of rows in a view; the last one may be shorter."""
        return -(-self.samples // self.block_rows)

    @property
    def blocks(self) -> int:
        """Blocks of rows in all views."""
        return self.views * self.blocks_per_view

    @property
    def size_bytes(self) -> int:
        """Bytes of all columns."""
        return self.views * self.samples * self.encoding.row_bytes(self.classes)

    def rows_of(self, block: int) -> tuple[int, slice]:
        """View and rows of a block."""
        view, number = divmod(block, self.blocks_per_view)
        start = number * self.block_rows
        return view, slice(start, min(start + self.block_rows, self.samples))

    def sealed(self, checksums: tuple[str, ...]) -> Self:
        """The header with the checksums of its blocks, and its own."""
        header = self.model_copy(update={"checksums": checksums, "checksum": ""})
        return header.model_copy(update={"checksum": header._checksum()})

    @property
    def whole(self) -> bool:
        """Whether the header is as it was sealed."""
        return self.checksum == self._checksum() and len(self.checksums) == self.blocks

    def _checksum(self) -> str:
        text = json.dumps(self.model_dump(mode="json", exclude={"checksum"}), sort_keys=True, separators=(",", ":"))
        return xxhash.xxh3_128_hexdigest(text.encode())


def block_rows(classes: int) -> int:
    """Rows of a block, a power of two: few enough that a block of them in float32 takes no more than 16 MB."""
    return int(min(BLOCK_ROWS, 2 ** (max(1, BLOCK_LOGITS // classes).bit_length() - 1)))


class SoftLabels:
    """A memory-mapped cache of a teacher's logits; row i belongs to sample i of the data set."""

    def __init__(self, folder: Path, header: SoftLabelsHeader) -> None:
        self.folder = folder
        self.header = header
        #: `[views, samples, width]` each.
        self.columns = tuple(
            # A plain view of it: a memmap's own way of indexing takes longer than to read a small batch.
            np.memmap(
                _path(folder, column), column.dtype, "r", shape=(header.views, header.samples, column.width)
            ).view(np.ndarray)
            for column in header.encoding.columns(header.classes)
        )

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Map a cache.

        Raises:
            ArtifactDamaged: the header or the length of a column is not right.
            StoreUnavailable: a file cannot be read.

        """
        folder = Path(folder)
        with store_errors(folder):
            try:
                header = SoftLabelsHeader.model_validate_json(read(folder / HEADER, MOST_HEADER_BYTES))
                if not header.whole:
                    raise ValueError(f"{HEADER} was altered, or its labels were never finished")
                for column in header.encoding.columns(header.classes):
                    path = _path(folder, column)
                    wanted = header.views * header.samples * column.row_bytes
                    if (size_bytes := path.stat().st_size) != wanted:
                        raise ValueError(f"{path.name} has {size_bytes:,} bytes instead of {wanted:,}")
                return cls(folder, header)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise ArtifactDamaged(f"{folder}: no soft labels of this version: {where}: {first['msg']}") from None
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, InvalidInput) as error:
                raise ArtifactDamaged(f"{folder}: no soft labels of this version: {error}") from error

    def __len__(self) -> int:
        return self.header.samples

    def __reduce__(self) -> Any:
        """Pickle the folder's path alone: another process maps the files anew."""
        return type(self).open, (self.folder,)

    def __getitem__(self, indices: Indices) -> Floats:
        """Logits of some samples in view 0, `[batch, classes]`, or of one, `[classes]`; float32, before softmax."""
        if isinstance(indices, int | np.integer):
            if not -len(self) <= indices < len(self):
                raise IndexError(f"sample {indices} of {len(self):,}")
            logits: Floats = self.batch(np.array([indices]))[0]
            return logits
        return self.batch(indices)

    def batch(self, indices: Indices, view: int = 0, temperature: float | None = None) -> Floats:
        """Logits of some samples in a view, `[batch, classes]`, float32; with a temperature, their probabilities."""
        logits = self.header.encoding.decode(self.stored(indices, view), self.header.classes)
        if isinstance(indices, slice) and not logits.flags.writeable:
            logits = logits.copy()
        return logits if temperature is None else softmax(logits, temperature)

    def stored(self, indices: Indices, view: int = 0) -> tuple[Array, ...]:
        """The columns' rows `[batch, width]` of some samples in a view, as they are stored."""
        if not 0 <= view < self.header.views:
            raise IndexError(f"view {view} of {self.header.views}")
        if isinstance(indices, slice):
            return tuple(column[view, indices] for column in self.columns)
        if (kind := np.asarray(indices).dtype.kind) not in "iu" and np.size(indices):
            raise IndexError(f"samples are addressed by whole numbers, not by type '{kind}'")
        return tuple(np.take(column[view], np.asarray(indices, dtype=np.intp), axis=0) for column in self.columns)

    def outside_mass(self, indices: Indices, view: int = 0, temperature: float = 1.0) -> OutsideMass:
        """Probability of the classes outside the top k, with its bounds.

        Raises:
            InvalidInput: all classes are kept.

        """
        if self.header.encoding.top_k is None:
            raise InvalidInput(f"{self.folder}: all classes are kept: nothing is outside")
        columns = self.stored(indices, view)
        return outside_mass(self.header.encoding, columns, self.header.classes, temperature)

    def require(
        self,
        *,
        dataset_key: str | None = None,
        class_names: tuple[str, ...] | None = None,
        teacher_key: str | None = None,
        augmentation: Augmentation | None = None,
        augmentation_fingerprint: str | None = None,
    ) -> None:
        """Refuse labels that differ from what is asked for; None accepts anything.

        Raises:
            InvalidInput: the message says what differs.

        """
        header = self.header
        for what, found, wanted in (
            ("data set", header.dataset_key, dataset_key),
            ("teacher", header.teacher_key, teacher_key),
        ):
            if wanted is not None and found != wanted:
                raise InvalidInput(f"{self.folder}: made for {what} {found[:8] or 'unknown'}, not for {wanted[:8]}")
        if class_names is not None and len(class_names) != header.classes:
            raise InvalidInput(f"{self.folder}: made for {header.classes} classes, not for {len(class_names)}")
        for number, (name, wanted) in enumerate(
            zip(header.class_names, class_names or header.class_names, strict=True)
        ):
            if name != wanted:
                raise InvalidInput(f"{self.folder}: its class {number} is '{name}', not '{wanted}'")
        if augmentation is not None and augmentation != header.augmentation:
            found, wanted = (str(each or "none") for each in (header.augmentation, augmentation))
            raise InvalidInput(f"{self.folder}: made with augmentation {found}, not with {wanted}")
        if augmentation_fingerprint not in (None, header.augmentation_fingerprint):
            raise InvalidInput(f"{self.folder}: its views were made with other random numbers than this version's")

    def block(self, block: int) -> tuple[Array, ...]:
        """The columns of a block, mapped anew: read once, they count as memory no longer than they are used."""
        view, rows = self.header.rows_of(block)
        with store_errors(self.folder):
            return tuple(
                np.memmap(
                    _path(self.folder, column),
                    column.dtype,
                    "r",
                    offset=(view * self.header.samples + rows.start) * column.row_bytes,
                    shape=(rows.stop - rows.start, column.width),
                ).view(np.ndarray)
                for column in self.header.encoding.columns(self.header.classes)
            )

    def verify(self) -> None:
        """Compare every block with its checksum.

        Raises:
            ArtifactDamaged: a block differs; the message says which.

        """
        for block, checksum in enumerate(self.header.checksums):
            if checksum_of(self.block(block)) != checksum:
                view, rows = self.header.rows_of(block)
                where = f"samples {rows.start:,} to {rows.stop - 1:,} of view {view}"
                raise ArtifactDamaged(f"{self.folder}: {where} differ from their checksum")


def checksum_of(columns: tuple[Array, ...]) -> str:
    """XXH3 of a block: all of its columns one after the other."""
    digest = xxhash.xxh3_128()
    for column in columns:
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _path(folder: Path, column: Column) -> Path:
    return folder / f"{column.name}.bin"
