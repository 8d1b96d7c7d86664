"""Folders that several users may share: read without taking a closed one for an empty one, filled with the usual modes.

`Path.glob` passes over what it may not read, and `tempfile` gives what it makes to one user alone, whatever umask says.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import store_errors

#: What says that a folder is not there: it may have been one a moment ago.
GONE = (FileNotFoundError, NotADirectoryError)


@contextmanager
def draft_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new empty folder of an unguessable name; removed at the end, unless it was renamed.

    Raises:
        OSError: it cannot be made.

    """
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        clear_away(folder)


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Where to write what is to replace a file: an unguessable name beside it; removed at the end, unless renamed."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        with suppress(OSError):  # As of a disk that is only read: why it was not written is to be said, not this.
            draft.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that a user has named, whole or not at all; into a link, a pipe or a device as it comes.

    Raises:
        OSError: it cannot be written.

    """
    is_other = path.is_symlink() or (path.exists() and not path.is_file())
    if is_other or not os.access(path.parent, os.W_OK):
        path.write_text(text, encoding="utf-8")
        return
    with draft_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
        if path.exists():
            draft.chmod(path.stat().st_mode)
        draft.replace(path)


@contextmanager
def removed_if_unfinished(path: Path) -> Iterator[None]:
    """Remove a new file that cannot be written to its end."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def clear_away(folder: Path) -> None:
    """Remove a folder as far as that is possible: what stays of it does no harm."""
    with suppress(OSError):  # `rmtree` raises what looking at an open folder raises, whatever it is told.
        shutil.rmtree(folder, ignore_errors=True)


def found_in(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no folder.

    Raises:
        StoreUnavailable: it cannot be read.

    """
    with store_errors(folder), suppress(*GONE):
        return sorted(folder.iterdir())
    return []


def found_below(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder; what vanishes meanwhile is passed over, links are not followed.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    with store_errors(folder):
        for place, folders, files in os.walk(folder, onerror=_refuse):
            yield from (Path(place, name) for name in (*folders, *files))


def size_below(folder: Path) -> int:
    """Bytes of the files below a folder.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    total = 0
    for path in found_below(folder):
        with store_errors(path), suppress(*GONE):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _refuse(error: OSError) -> None:
    if not isinstance(error, GONE):
        raise error
