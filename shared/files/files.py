"""Files that others may have written: opened only if they are regular files, and read only up to a limit."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Largest list of its members that an archive may have: some ten thousand names.
MOST_DIRECTORY_BYTES = 1_000_000
#: How NumPy compresses. Other methods may unpack a few bytes to any size, and do so at once.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: Bytes that are read at once of a file that is held in memory: most are shorter.
PIECE_BYTES = 65_536

#: What else may lie in a file's place.
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NoFile(ValueError):
    """Something else than a file lies in a file's place, or one that is too large; the message says what."""


class NoArchive(ValueError):
    """A zip archive that NumPy does not write; the message says why."""


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedReader]:
    """A regular file, opened for reading; links to one are followed.

    Raises:
        NoFile: it is something else.
        OSError: it cannot be opened.

    """
    with _descriptor(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        yield file


def read(path: str | Path, most_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        NoFile: it is something else, or larger.
        OSError: it cannot be read.

    """
    pieces, left = list[bytes](), most_bytes + 1
    with _descriptor(path) as descriptor:
        while piece := os.read(descriptor, min(left, PIECE_BYTES)):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise NoFile(f"larger than {most_bytes:,} bytes")
    return b"".join(pieces)


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive such as NumPy writes; to open it takes no more memory than a short list of members.

    Raises:
        NoFile: it is no regular file.
        NoArchive: it has too many members, or they are packed in another way.
        zipfile.BadZipFile: it is damaged, or no archive.
        OSError: it cannot be read.

    """
    with opened(path) as plain, zipfile.ZipFile(file := _ArchiveFile(plain.raw)) as archive:
        file.most = None
        for member in archive.infolist():
            if member.compress_type not in COMPRESSIONS:
                raise NoArchive(f"its member {member.filename[:80]!r} is packed in a way that NumPy never uses")
        yield archive


class _ArchiveFile(io.BufferedReader):
    """An archive's file: limits reads until the list of members is read, and refuses positions before its start."""

    most: int | None = MOST_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece; raise `NoArchive` if it is longer than the list of members may be."""
        if self.most is None:
            return super().read(size)
        content = super().read(self.most + 1 if size is None or not 0 <= size <= self.most else size)
        if len(content) > self.most:
            raise NoArchive(f"the list of its members is longer than {self.most:,} bytes")
        return content

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position; one before the beginning means a damaged archive, not a broken disk."""
        try:
            return super().seek(place, whence)
        except (OSError, OverflowError) as error:
            # While `zipfile` looks for the list of members, it handles a file that is too short by itself.
            if isinstance(error, OSError) and (error.errno != errno.EINVAL or self.most is not None):
                raise
            raise zipfile.BadZipFile("a damaged zip archive") from None


@contextmanager
def _descriptor(path: str | Path) -> Iterator[int]:
    """A descriptor of a regular file."""
    # O_NONBLOCK, so as not to wait for the writer of a pipe; for a regular file it changes nothing.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            raise NoFile(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
        yield descriptor
    finally:
        os.close(descriptor)
