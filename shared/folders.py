"""Folders that several users may share: read without taking a closed one for an empty one, filled with the usual modes.

`Path.glob` passes over what it may not read, and `tempfile` gives what it makes to one user alone, whatever umask says.
What is counted or removed is reached through folders alone: a link may lead to where nothing of the store lies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
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
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Where to write what is to replace a file: an unguessable name beside it; removed at the end, unless renamed."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def found_in(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no folder.

    Raises:
        StoreUnavailable: it cannot be read.

    """
    with store_errors(folder), suppress(*GONE):
        return sorted(folder.iterdir())
    return []


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself; a link to one is none.

    Raises:
        StoreUnavailable: it cannot be looked at.

    """
    with store_errors(path), suppress(*GONE):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


@contextmanager
def held(root: Path, *names: str, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below a root, which is reached through folders alone.

    Args:
        root: a folder, or a link to one.
        names: of the folders on the way, one in the other.
        make: whether to make those that are not there.

    Raises:
        NotADirectoryError: a link or something else lies on the way.
        OSError: a folder is not there, or cannot be opened.

    """
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            before, here = here, os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(before)
        yield here
    finally:
        os.close(here)


def found_below(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder; what vanishes meanwhile is passed over, links are not followed.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    with store_errors(folder):
        yield from (Path(entry.path) for entry in _entries_below(folder))


def size_below(folder: Path) -> int:
    """Bytes of the files below a folder; what is no file, as a link, has none.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    total = 0
    with store_errors(folder):
        for entry in _entries_below(folder):
            with suppress(*GONE):
                total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total


def _entries_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies below a folder, as the system lists it: of most entries it tells without another look what they are."""
    folders = list[str]()
    with suppress(*GONE):
        folders += [str(folder)] if stat.S_ISDIR(folder.lstat().st_mode) else []
    while folders:
        found: list[os.DirEntry[str]] = []
        with suppress(*GONE), os.scandir(folders.pop()) as entries:
            found += entries
        folders += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        yield from found
