"""Content: the SHA-256 of what a file or folder holds, of which only new and changed files are read again.

A folder's is that of its files' names and contents, in the order of the names: not of times, owners, modes or links.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.files import NoFile, opened
from distill_queue.shared.files.given_file import shown

#: Nanoseconds for which a file must have lain unchanged if its hash is to be remembered: within a file system's
#: smallest step of time it may change again and look the same.
SETTLED_NS = 2_000_000_000
#: Files that are hashed at once: hashing leaves Python's lock, and reading waits for the disk.
THREADS = 8

_TABLE = (
    "CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, size, modified, changed, inode, sha256) WITHOUT ROWID"
)

Takes = Callable[[str], bool]
#: Path, size, nanoseconds of the last change of content and of anything, number of the file, SHA-256.
Row = tuple[bytes, int, int, int, int, bytes]


def content_of(path: Path, takes: Takes, memory: Path) -> str:
    """The SHA-256 of a file, with the end of its name, or of those files below a folder whose names are taken.

    Args:
        path: a file or a folder; links are followed.
        takes: whether a folder's file counts, by its name; hidden files and folders never do.
        memory: a file in which the hashes of files are remembered; it may be absent, and removed at any time.

    Raises:
        InvalidInput: something cannot be read, or a folder holds no such file.

    """
    if not path.is_dir():
        (digest,) = _hashes([path], memory)
        return hashlib.sha256(b"\0".join((path.suffix.encode(), digest))).hexdigest()
    files = sorted(files_below(path, takes), key=os.fsencode)
    if not files:
        raise InvalidInput(f"{shown(path)}: none of its files can be used")
    whole = hashlib.sha256()
    for file, digest in zip(files, _hashes(files, memory), strict=True):
        whole.update(b"\0".join((os.fsencode(file.relative_to(path).as_posix()), digest)) + b"\n")
    return whole.hexdigest()


def files_below(folder: Path, takes: Takes) -> Iterator[Path]:
    """The files below a folder whose names are taken, in any order; hidden ones are left out, links are followed.

    Raises:
        InvalidInput: a folder cannot be read.

    """
    seen: set[tuple[int, int]] = set()
    left = [folder]
    while left:
        try:
            with os.scandir(here := left.pop()) as entries:
                status = here.stat()
                if (place := (status.st_dev, status.st_ino)) in seen:  # A link led back to it.
                    continue
                seen.add(place)
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        left.append(Path(entry.path))
                    elif takes(entry.name):
                        yield Path(entry.path)
        except OSError as error:
            raise InvalidInput(f"{shown(error.filename or here)}: {error.strerror or error}") from error


def _hashes(files: list[Path], memory: Path) -> list[bytes]:
    """The SHA-256 of each file, in hexadecimal."""
    with closing(_opened(memory)) as table, ThreadPoolExecutor(THREADS) as threads:
        names = [os.fsencode(file.absolute()) for file in files]
        known = [table.execute("SELECT * FROM hashes WHERE path = ?", (name,)).fetchone() for name in names]
        found = list(threads.map(_hash, files, known))
        now = time.time_ns()
        new = [
            (name, *facts, digest)
            for name, (facts, digest, computed) in zip(names, found, strict=True)
            if computed and now - max(facts[1:3]) > SETTLED_NS
        ]
        with suppress(sqlite3.Error):  # Another process writes there, or the disk is full: they are hashed again then.
            table.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", new)
            table.commit()
    return [digest for _, digest, _ in found]


def _hash(file: Path, known: Row | None) -> tuple[tuple[int, ...], bytes, bool]:
    """What tells a file's versions apart, its SHA-256 in hexadecimal, and whether this was computed now."""
    try:
        if known and known[1:5] == (facts := _facts(file.stat())):
            return facts, known[5], False
        with opened(file) as content:
            facts = _facts(os.fstat(content.fileno()))
            return facts, hashlib.file_digest(content, "sha256").hexdigest().encode(), True
    except NoFile as error:
        raise InvalidInput(f"{shown(file)}: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{shown(file)}: {error.strerror or error}") from error


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _opened(memory: Path) -> sqlite3.Connection:
    """The table of hashes; an empty one in memory where the file cannot be used."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(memory)
        table.execute(_TABLE)
    except (sqlite3.Error, OSError):
        table = sqlite3.connect(":memory:")
        table.execute(_TABLE)
    return table
