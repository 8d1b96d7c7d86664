"""The soft-label cache's writer: block by block, by any number of processes, and sealed by one."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import xxhash

from distill_queue.shared.errors import InvalidInput, StoreUnavailable, store_errors
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.files.folders import GONE, clear_away, found_in
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels, SoftLabelsHeader, checksum_of
from distill_queue.shared.soft_labels.encoding import Column
from distill_queue.shared.soft_labels.numerics import Array

#: Folder of the labels as they will be.
LABELS = "labels"
#: Folder of the finished blocks' names, `<block>-<checksum>`: each an empty file.
FINISHED = "finished"
#: A file that says that all columns have their length; it is made last.
READY = "ready"
#: Bytes that are encoded, hashed and written in one go.
PIECE_BYTES = 1_048_576

_FINISHED_NAME = re.compile(r"(\d{1,12})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class SoftLabelsWriter:
    """Unfinished labels: `labels/` as they will be, and beside it which blocks are finished.

    A block's name is put among the finished ones once the block is written whole, with its checksum: after a kill only
    the other blocks are left to do. Several processes may write blocks, and one block twice: the same rows have the
    same bytes. The folder's name is a hash of the header and of `made_with`, so that a writer of other labels never
    writes into these.
    """

    folder: Path
    header: SoftLabelsHeader
    #: Where other machines see finished blocks, `<block>-<checksum>` each; None where they see the folder.
    bucket: Bucket | None = None

    @classmethod
    def begin(cls, folder: Path, header: SoftLabelsHeader, made_with: str = "", bucket: Bucket | None = None) -> Self:
        """Go on with a folder's labels if header and `made_with` are the same; else remove what is there, and begin.

        Raises:
            InvalidInput: labels of this kind cannot be stored so.
            StoreUnavailable: the folder cannot be written, or the disk has no room for all labels.

        """
        header.encoding.columns(header.classes)
        name = _name(header, made_with)
        writer = cls(folder / name, header, bucket and bucket.below(name))
        with store_errors(folder):
            for other in found_in(folder):
                if other != writer.folder:
                    clear_away(other)
            if writer._is_ready():
                writer._forget_altered()
            else:
                try:
                    writer._take_room()
                except OSError:
                    clear_away(writer.folder)
                    raise
        if bucket and writer.bucket:
            bucket.remove(*(other for other in bucket.list() if not other.startswith(f"{name}/")))
            writer.bucket.write(READY, b"")
        return writer

    @classmethod
    def join(
        cls, folder: Path, header: SoftLabelsHeader, made_with: str = "", bucket: Bucket | None = None
    ) -> Self | None:
        """Help with labels that were begun with the same header and `made_with`; None where there are none."""
        name = _name(header, made_with)
        writer = cls(folder / name, header, bucket and bucket.below(name))
        with store_errors(folder):
            if writer.bucket and not writer._is_ready() and writer.bucket.exists(READY):
                writer._take_room()  # Another machine began them: this one makes files of its own.
            return writer if writer._is_ready() else None

    @property
    def missing(self) -> list[int]:
        """Copy here the blocks that other machines have finished; return those that are not finished, in order."""
        self._bring()
        finished = self._finished
        return [block for block in range(self.header.blocks) if block not in finished]

    def write(self, block: int, logits: Array) -> None:
        """Store the logits `[rows, classes]` of a block, float32 or, for a dense float16, float16 already.

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
            name = f"{block}-{digest.hexdigest()}"
            (self.folder / FINISHED / name).touch()
        if self.bucket:
            columns = SoftLabels(self.folder / LABELS, self.header).block(block)
            self.bucket.write(name, b"".join(column.tobytes() for column in columns))

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
            fresh.write_text(header.model_dump_json(indent=1), encoding="utf-8")
            fresh.replace(self.folder / LABELS / HEADER)
        return SoftLabels.open(self.folder / LABELS)

    def _bring(self) -> None:
        """Copy here the blocks that other machines have finished."""
        if self.bucket is None:
            return
        finished = self._finished
        for name in self.bucket.list():
            match = _FINISHED_NAME.fullmatch(name)
            if match and int(match[1]) < self.header.blocks and int(match[1]) not in finished:
                content = self.bucket.read(name) or b""
                if xxhash.xxh3_128_hexdigest(content) == match[2]:
                    with store_errors(self.folder):
                        self._write_block(int(match[1]), content)
                        (self.folder / FINISHED / name).touch()

    def _write_block(self, block: int, content: bytes) -> None:
        """Write a block's columns, one after the other, to their places."""
        view, rows = self.header.rows_of(block)
        first, start = view * self.header.samples + rows.start, 0
        for column, _ in self._columns:
            stop = start + (rows.stop - rows.start) * column.row_bytes
            piece = np.frombuffer(content, np.uint8, stop - start, start)
            _write_at(self._path(column.name), iter((piece,)), first * column.row_bytes)
            start = stop

    @property
    def _finished(self) -> dict[int, str]:
        """Checksums of the finished blocks."""
        with store_errors(self.folder):
            # Not `found_in`: labels whose folder is gone are not the same as labels without a finished block.
            names = [_FINISHED_NAME.fullmatch(path.name) for path in (self.folder / FINISHED).iterdir()]
        found = {int(name[1]): name[2] for name in names if name}
        return {block: checksum for block, checksum in found.items() if block < self.header.blocks}

    @property
    def _columns(self) -> Iterator[tuple[Column, int]]:
        """Each column, and its length in bytes."""
        for column in self.header.encoding.columns(self.header.classes):
            yield column, self.header.views * self.header.samples * column.row_bytes

    def _is_ready(self) -> bool:
        """Whether all columns are there, each of its length."""
        with suppress(*GONE):
            return (
                (self.folder / READY).exists()
                and (self.folder / FINISHED).is_dir()
                and all(self._path(column.name).stat().st_size == length for column, length in self._columns)
            )
        return False

    def _take_room(self) -> None:
        """Make all columns, each of its length, so that a disk that is too small is found at once."""
        with suppress(*GONE):
            shutil.rmtree(self.folder)  # The error names the file of another user that this one cannot remove.
        (self.folder / LABELS).mkdir(parents=True)
        (self.folder / FINISHED).mkdir()
        for column, length in self._columns:
            with self._path(column.name).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, length)
        (self.folder / READY).touch()

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

    def _forget_altered(self) -> list[int]:
        """Remove the names of finished blocks that are not as they were written; return these blocks."""
        written = SoftLabels(self.folder / LABELS, self.header)
        altered = []
        for block, checksum in self._finished.items():
            if checksum_of(written.block(block)) != checksum:
                (self.folder / FINISHED / f"{block}-{checksum}").unlink(missing_ok=True)
                altered.append(block)
        return altered

    def _path(self, column: str) -> Path:
        return self.folder / LABELS / f"{column}.bin"


def _name(header: SoftLabelsHeader, made_with: str) -> str:
    text = json.dumps([header.model_dump(mode="json"), made_with], sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _noted(pieces: Iterator[Array], digest: xxhash.xxh3_128) -> Iterator[Array]:
    """Yield the pieces, and add each to the digest."""
    for piece in pieces:
        digest.update(piece.data)
        yield piece


def _write_at(path: Path, pieces: Iterator[Array], offset: int) -> None:
    """Write pieces into an existing file, opened for each block: it moves away when the labels are sealed."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for piece in pieces:
            left = piece.data.cast("B")
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
    finally:
        os.close(descriptor)
