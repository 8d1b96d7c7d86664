"""The soft-label cache's writer: block by block, by any number of processes, and sealed by one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import xxhash

from shared.encoding import Array, Column
from shared.errors import InvalidInput, StoreUnavailable, store_errors
from shared.soft_labels import HEADER, SoftLabels, SoftLabelsHeader, checksum_of

#: Of unfinished labels: what they will be, and with what they are made.
DRAFT = "draft.json"
#: Folder of the finished blocks' names, `<block>-<checksum>`: each an empty file.
FINISHED = "finished"
LABELS = "labels"
#: Bytes that are encoded, hashed and written in one go.
PIECE_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class SoftLabelsWriter:
    """Unfinished labels in a folder: `labels/` as they will be, and beside it which blocks are finished.

    A block is named as finished once it is written whole, with its checksum: whoever goes on after a kill has only the
    others to do. Blocks may be written by several processes, and twice: the same rows have the same bytes.
    """

    folder: Path
    header: SoftLabelsHeader

    @classmethod
    def begin(cls, folder: Path, header: SoftLabelsHeader, made_with: str = "") -> Self:
        """Go on with what is in a folder if it is of the same labels, made with the same; else begin anew.

        Raises:
            InvalidInput: labels of this kind cannot be stored so.
            StoreUnavailable: the folder cannot be written, or the disk has no room for all labels.

        """
        writer = cls(folder, header)
        columns = header.encoding.columns(header.classes)
        with store_errors(folder):
            if not writer._is_of(made_with):
                shutil.rmtree(folder, ignore_errors=True)
                (folder / LABELS).mkdir(parents=True)
                (folder / FINISHED).mkdir()
                for column in columns:
                    _take_room(writer._path(column.name), header.views * header.samples * column.row_bytes)
                # Last, by a rename: with it the room is there.
                fresh = folder / f"{DRAFT}.{os.getpid()}"
                fresh.write_text(_draft(header, made_with))
                fresh.replace(folder / DRAFT)
            else:
                writer._forget_altered()
        return writer

    @classmethod
    def join(cls, folder: Path, made_with: str = "") -> Self | None:
        """Help with the labels in a folder; None where there are none, or they are made with something else."""
        try:
            draft = json.loads((folder / DRAFT).read_text())
            writer = cls(folder, SoftLabelsHeader.model_validate(draft["header"]))
        except (OSError, ValueError, KeyError):
            return None
        return writer if writer._is_of(made_with) else None

    @property
    def missing(self) -> list[int]:
        """Blocks that are not finished, in order."""
        finished = self._finished
        return [block for block in range(self.header.blocks) if block not in finished]

    def write(self, block: int, logits: Array) -> None:
        """Store the logits `[rows, classes]` of a block, float32.

        Raises:
            InvalidInput: a logit cannot be stored, or the rows are not those of the block.
            StoreUnavailable: the disk is full or the labels are gone: nothing is named as finished.

        """
        view, rows = self.header.rows_of(block)
        if logits.shape != (wanted := (rows.stop - rows.start, self.header.classes)):
            raise InvalidInput(f"soft labels: block {block} is {list(logits.shape)}, not {list(wanted)}")
        first, digest = view * self.header.samples + rows.start, xxhash.xxh3_128()
        with store_errors(self.folder):
            for column, pieces in self._encoded(logits):
                _write_at(self._path(column.name), _noted(pieces, digest), first * column.row_bytes)
            (self.folder / FINISHED / f"{block}-{digest.hexdigest()}").touch()

    def seal(self) -> SoftLabels:
        """Write the header, once each block has been read back with its checksum.

        Raises:
            InvalidInput: a block was never written.
            StoreUnavailable: a block is not as it was written: begin again, and only it is missing.

        """
        if missing := self.missing:
            view, rows = self.header.rows_of(missing[0])
            raise InvalidInput(
                f"soft labels: {len(missing)} of {self.header.blocks} blocks were never written, the first from "
                f"sample {rows.start:,} of view {view} on"
            )
        with store_errors(self.folder):
            if self._forget_altered():
                raise StoreUnavailable(f"store: {self.folder}: blocks are not as they were written")
            finished = self._finished
            header = self.header.sealed(tuple(finished[block] for block in range(self.header.blocks)))
            fresh = self.folder / f"{HEADER}.{os.getpid()}"
            fresh.write_text(header.model_dump_json(indent=1))
            fresh.replace(self.folder / LABELS / HEADER)
        return SoftLabels.open(self.folder / LABELS)

    @property
    def _finished(self) -> dict[int, str]:
        """Checksums of the finished blocks."""
        with store_errors(self.folder):
            names = (path.name.partition("-") for path in (self.folder / FINISHED).iterdir())
            return {int(block): checksum for block, _, checksum in names}

    def _encoded(self, logits: Array) -> Iterator[tuple[Column, Iterator[Array]]]:
        """The columns of some rows, each in pieces that stay in a processor's cache until they are written."""
        encoding = self.header.encoding
        columns = encoding.columns(self.header.classes)
        step = max(1, PIECE_BYTES // columns[0].row_bytes)
        parts = [slice(start, start + step) for start in range(0, len(logits), step)]
        if len(columns) == 1:
            yield columns[0], (encoding.encode(logits[part])[0] for part in parts)
            return
        for column, encoded in zip(columns, encoding.encode(logits), strict=True):
            yield column, (encoded[part] for part in parts)

    def _is_of(self, made_with: str) -> bool:
        """Whether the draft in the folder is of these labels, and all there."""
        columns, rows = self.header.encoding.columns(self.header.classes), self.header.views * self.header.samples
        with suppress(OSError):
            return (self.folder / DRAFT).read_text() == _draft(self.header, made_with) and all(
                self._path(column.name).stat().st_size == rows * column.row_bytes for column in columns
            )
        return False

    def _forget_altered(self) -> list[int]:
        """Take the finished blocks' names from those that are not as they were written; return these."""
        written = SoftLabels(self.folder / LABELS, self.header)
        altered = []
        for block, checksum in self._finished.items():
            if checksum_of(written.block(block)) != checksum:
                (self.folder / FINISHED / f"{block}-{checksum}").unlink(missing_ok=True)
                altered.append(block)
        return altered

    def _path(self, column: str) -> Path:
        return self.folder / LABELS / f"{column}.bin"


def _draft(header: SoftLabelsHeader, made_with: str) -> str:
    return json.dumps({"header": header.model_dump(mode="json"), "made_with": made_with})


def _take_room(path: Path, size_bytes: int) -> None:
    """Make a file of a size, so that a disk that is too small is found at once."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _noted(pieces: Iterator[Array], digest: xxhash.xxh3_128) -> Iterator[Array]:
    """The same pieces, hashed as they go by."""
    for piece in pieces:
        digest.update(piece.data)
        yield piece


def _write_at(path: Path, pieces: Iterator[Array], offset: int) -> None:
    """Write into an existing file: opened for each block, as labels that were sealed are there no more."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for piece in pieces:
            left = piece.data.cast("B")
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
    finally:
        os.close(descriptor)
