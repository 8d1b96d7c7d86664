"""Content: the SHA-256 of what a file or folder holds, of which only new and changed files are read again.

A folder's is that of its files' names and contents, in the order of the names: not of times, owners, modes or links.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.data_folders import require_inside
from distill_queue.shared.files.given_file import shown
from distill_queue.shared.files.hashing import Advance, Hashed, Readers, facts_of
from distill_queue.shared.line import listed

#: Ends of names that a message names one by one.
MOST_NAMED = 5
#: Files that a thread looks at in one go: a look takes less time than to hand it to a thread.
FILES_AT_ONCE = 64

_TABLE = (
    "CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, size, modified, changed, inode, sha256) WITHOUT ROWID"
)

#: The folder in which everything lies.
_ALL = Path("/")

Takes = Callable[[str], bool]
#: Path, what tells its versions apart, SHA-256.
Row = tuple[bytes, int, int, int, int, bytes]


def content_of(
    path: Path,
    takes: Takes,
    memory: Path,
    advance: Advance = lambda _: None,
    *,
    roots: Sequence[Path] = (_ALL,),
    wanted: str = "files",
) -> str:
    """The SHA-256 of a file, with the end of its name, or of those files below a folder whose names are taken.

    Args:
        path: a file or a folder; links are followed.
        takes: whether a folder's file counts, by its name; hidden files and folders never do.
        memory: a file in which the hashes of files are remembered; it may be absent, and removed at any time.
        advance: called with how far it is; what it raises ends the work, and what is hashed by then is remembered.
        roots: the folders, without links themselves, out of which no link below a folder may lead.
        wanted: what a message calls files that are taken.

    Raises:
        InvalidInput: something cannot be read or lies outside of `roots`, or a folder holds no such file.

    """
    if not path.is_dir():
        (digest,) = _hashes([path], memory, advance)
        return hashlib.sha256(b"\0".join((path.suffix.encode(), digest))).hexdigest()
    files: list[Path] = []
    for file in files_below(path, takes, roots):
        files.append(file)
        advance(Hashed(0, len(files)))
    files.sort(key=os.fsencode)
    if not files:
        others = Counter(file.suffix.lower() or "no ending" for file in files_below(path, lambda _: True, roots))
        there = listed([f"{count:,} {ending}" for ending, count in others.most_common()], MOST_NAMED) or "nothing"
        raise InvalidInput(f"{shown(path)}: none of its files can be used (there: {there}; wanted: {wanted})")
    whole = hashlib.sha256()
    for file, digest in zip(files, _hashes(files, memory, advance), strict=True):
        whole.update(b"\0".join((os.fsencode(file.relative_to(path).as_posix()), digest)) + b"\n")
    return whole.hexdigest()


def files_below(folder: Path, takes: Takes, roots: Sequence[Path] = (_ALL,)) -> Iterator[Path]:
    """The files below a folder whose names are taken, in any order; hidden ones are left out, links are followed.

    Raises:
        InvalidInput: a folder cannot be read, or a link leads out of `roots`.

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
                    if not (is_folder := entry.is_dir()) and not takes(entry.name):
                        continue
                    if entry.is_symlink():
                        require_inside(roots, entry.path)
                    if is_folder:
                        left.append(Path(entry.path))
                    else:
                        yield Path(entry.path)
        except OSError as error:
            raise InvalidInput(f"{shown(error.filename or here)}: {error.strerror or error}") from error


def _hashes(files: list[Path], memory: Path, advance: Advance) -> list[bytes]:
    """The SHA-256 of each file, in hexadecimal."""
    names = [os.fsencode(file.absolute()) for file in files]
    with closing(_opened(memory)) as table, Readers(advance, len(files)) as readers:
        rows = [table.execute("SELECT * FROM hashes WHERE path = ?", (name,)).fetchone() for name in names]
        blocks = [files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE)]
        facts = [each for block in readers.each(facts_of, blocks) for each in block]
        digests = [row[5] if row and row[1:5] == each else b"" for row, each in zip(rows, facts, strict=True)]
        changed = [place for place, digest in enumerate(digests) if not digest]
        readers.begin(len(changed), sum(facts[place][0] for place in changed))
        new: list[Row] = []
        try:
            found = readers.each(readers.hash, [files[place] for place in changed])
            for place, (read, digest, settled) in zip(changed, found, strict=True):
                digests[place] = digest
                if settled:
                    new.append((names[place], *read, digest))
        finally:
            with suppress(sqlite3.Error):  # Another process writes there, or the disk is full: hashed again then.
                table.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", new)
                table.commit()
    return digests


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
