"""Folders that several users may share: a closed one is not taken for an empty one, and new files get the usual modes.

`Path.glob` passes over what it may not read, and `tempfile` ignores umask: what it makes is for one user alone. What is
counted or removed is reached without following links: these may lead out of the store.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distill_queue.shared.errors import store_errors

#: Errors that say that a folder is not there; it may have been there a moment ago.
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
    """A path of an unguessable name beside a file that it is to replace; removed at the end, unless renamed."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield draft
    finally:
        with suppress(OSError):  # As on a read-only disk: the user is to see the error of writing, not this one.
            draft.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that a user has named, whole or not at all; a link, a pipe or a device is written into directly.

    Raises:
        OSError: it cannot be written.

    """
    is_other = path.is_symlink() or (path.exists() and not path.is_file())
    if is_other or not os.access(path.parent, os.W_OK):
        with open(path, "w", encoding="utf-8", opener=_open_at_once) as file:
            file.write(text)
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
    """Remove a folder as far as possible: remains of it do no harm."""
    with suppress(OSError):  # Even with `ignore_errors`, `rmtree` raises the errors of looking at an open folder.
        shutil.rmtree(folder, ignore_errors=True)


def found_in(folder: Path) -> list[Path]:
    """The paths of what lies in a folder, by name; none if there is no folder.

    Raises:
        StoreUnavailable: it cannot be read.

    """
    with store_errors(folder), suppress(*GONE):
        return sorted(folder.iterdir())
    return []


def entries_in(folder: str | Path) -> list[os.DirEntry[str]]:
    """The system's entries of a folder, by name: most of them tell what they are without another look.

    Raises:
        StoreUnavailable: it cannot be read.

    """
    with store_errors(folder), suppress(*GONE), os.scandir(str(folder)) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    return []


def folders_in(folder: str) -> list[os.DirEntry[str]]:
    """The folders in a folder, by name; a link to one is none.

    Raises:
        StoreUnavailable: it cannot be read.

    """
    with store_errors(folder):
        return [entry for entry in entries_in(folder) if entry.is_dir(follow_symlinks=False)]


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
    """A descriptor of a folder below a root, which is reached without following links.

    Args:
        root: a folder, or a link to one.
        names: the folders on the way, each in the one before it.
        make: whether to make folders that are not there.

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


def size_below(folder: str | Path) -> int:
    """Bytes of the files below a folder; links and other entries count 0.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    with store_errors(folder):
        return sum(map(_size_of, _entries_below(folder)))


def _entries_below(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The system's entries below a folder: most of them tell what they are without another look."""
    folders = list[str]()
    with suppress(*GONE):
        folders += [str(folder)] if stat.S_ISDIR(os.lstat(folder).st_mode) else []
    while folders:
        found: list[os.DirEntry[str]] = []
        with suppress(*GONE), os.scandir(folders.pop()) as entries:
            found += entries
        folders += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        yield from found


def _size_of(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; 0 if it is something else, or gone."""
    try:
        return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    except GONE:
        return 0


def _open_at_once(path: str, flags: int) -> int:
    """Open a file to write into it; fail for a pipe without a reader, where `open` would wait for ever."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor
