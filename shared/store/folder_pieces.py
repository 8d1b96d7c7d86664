"""Pieces of a store in a folder, and how they are removed beside workers that go on working.

Nothing is deleted where it lies. Garbage is moved to `trash/` first. Then the caller says again what may go: the rest,
and what was used meanwhile, goes back. A folder's time says when a worker found it last. A worker that looks for an
artifact while it is in the trash does not find it, and makes it again.

Only folders with names that the store gives are touched, and no link is followed: so nothing outside of the store is
counted, moved or deleted, even if links are made meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.folders import entries_in, found_below, held, is_folder, size_below
from distill_queue.shared.line import listed
from distill_queue.shared.store.pieces import DAMAGED, MOST_NAMED, PARTIAL, STAYS, MayGo, Piece, Removal

#: The suffix of folders in the trash from which nothing goes back.
DOOMED = ".doomed"

#: The names of drafts in a folder of `partial/`, as a pattern.
_DRAFT = r"draft-\w+"
#: Names in the trash, as patterns: of runs, and of what they moved there, which is its path in the store as one name.
_RUN = rf"\d+-[0-9a-f]+({re.escape(DOOMED)})?"
_MOVED = rf"artifacts\+[a-z_]+\+[0-9a-f]{{2}}\+[0-9a-f]{{64}}|partial\+{PARTIAL}(\+{_DRAFT})?|damaged\+{DAMAGED}"

logger = logging.getLogger(__name__)

_READ = stat.S_IRGRP | stat.S_IROTH
_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class FolderPieces:
    """The `Pieces` of a store whose folder all machines see."""

    root: Path

    def clear_trash(self) -> None:
        """Put back, or delete, what a killed run has left in the trash."""
        for run in _folders(self._trash, _RUN):
            if run.suffix == DOOMED:
                self._delete(run)
            else:
                self._put_back(run)

    def remove(self, pieces: Sequence[Piece], look: Callable[[], MayGo]) -> Removal:
        """Delete pieces, but for those that must stay by now.

        Raises:
            StoreUnavailable: something cannot be moved; then all is where it was, as after an error of `look`.

        """
        trash = self._trash / f"{time.time_ns()}-{secrets.token_hex(4)}"
        doomed = trash.with_suffix(DOOMED)
        try:
            moved = [piece for piece in pieces if self._move(piece.path, trash / self._name(piece.path))]
            may_go = look()
            # One rename decides whether a piece is deleted or goes back, even if another run clears the trash too.
            removed = [
                piece
                for piece in moved
                if self._is_as_listed(piece, trash / self._name(piece.path))
                and may_go(piece)
                and self._move(trash / self._name(piece.path), doomed / self._name(piece.path))
            ]
        finally:
            self._put_back(trash)
        self._delete(doomed)
        return Removal(tuple(removed), tuple(piece for piece in moved if piece not in removed))

    @property
    def _trash(self) -> Path:
        return self.root / "trash"

    def _name(self, path: Path) -> str:
        """A path in the store as one name, which says where to put the folder back."""
        return "+".join(path.relative_to(self.root).parts)

    def _is_as_listed(self, piece: Piece, place: Path) -> bool:
        """Whether a piece was not touched since it was listed."""
        return piece.what == "damaged" or _touched(place, deep=piece.what != "artifact") == piece.touched

    def __iter__(self) -> Iterator[Piece]:
        """All pieces that may be garbage, artifacts first."""
        yield from self._artifacts()
        for folder in _folders(self.root / "partial", PARTIAL):
            yield Piece("unfinished", "", folder.name, folder, size_below(folder), _touched(folder, deep=True))
            for draft in _folders(folder, _DRAFT, named=False):  # Beside checkpoints and labels.
                yield Piece("draft", "", folder.name, draft, size_below(draft), _touched(draft, deep=True))
        for folder in _folders(self.root / "damaged", DAMAGED):
            kind, key, when = (*folder.name.split("-"), "", "")[:3]
            touched = int(when) if when.isdecimal() else _touched(folder)
            yield Piece("damaged", kind, key, folder, size_below(folder), touched)

    def _artifacts(self) -> Iterator[Piece]:
        """The artifacts, each looked at once; other things that lie between them are logged by name."""
        for kind in _folders(self.root / "artifacts", "[a-z_]+"):
            store = self.root.stat()
            for group in _folders(kind, "[0-9a-f]{2}"):
                for folder in _folders(group, group.name + "[0-9a-f]{62}"):
                    with store_errors(folder), suppress(FileNotFoundError):  # Another run moved it just now.
                        here, size = folder.lstat(), size_below(folder)
                        noted = _use_is_noted(store, here)
                        yield Piece("artifact", kind.name, folder.name, folder, size, here.st_mtime_ns, noted)

    def _put_back(self, trash: Path) -> None:
        """Move what a run has left in the trash to where it was, unless something lies there again."""
        for folder in _folders(trash, _MOVED):
            if not self._move(folder, self.root.joinpath(*folder.name.split("+"))):
                self._delete_one(folder)
        self._remove_empty(trash)

    def _delete(self, doomed: Path) -> None:
        """Delete what was moved to a folder of the trash."""
        for folder in _folders(doomed, _MOVED):
            self._delete_one(folder)
        self._remove_empty(doomed)

    def _move(self, folder: Path, place: Path) -> bool:
        """Move a folder; return whether it was still there, and its new place was free."""
        with store_errors(folder):
            try:
                with self._held(folder.parent) as source, self._held(place.parent, make=True) as target:
                    os.rename(folder.name, place.name, src_dir_fd=source, dst_dir_fd=target)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
        return True

    def _delete_one(self, folder: Path) -> None:
        with store_errors(folder), suppress(FileNotFoundError), self._held(folder.parent) as parent:
            shutil.rmtree(folder.name, dir_fd=parent)

    def _remove_empty(self, trash: Path) -> None:
        with suppress(OSError), self._held(trash.parent) as parent:
            os.rmdir(trash.name, dir_fd=parent)

    def _held(self, folder: Path, *, make: bool = False) -> AbstractContextManager[int]:
        """A descriptor of a folder of the store, reached without following links."""
        return held(self.root, *folder.relative_to(self.root).parts, make=make)


def _folders(folder: Path, pattern: str, *, named: bool = True) -> list[Path]:
    """The folders in a folder whose names are the store's own; others are logged by name, and left alone."""
    if not is_folder(folder):
        if folder.is_symlink():
            logger.warning(STAYS, folder.parent, repr(folder.name))
        return []
    found, others = list[Path](), list[str]()
    with store_errors(folder):
        for entry in entries_in(folder):
            if re.fullmatch(pattern, entry.name) and entry.is_dir(follow_symlinks=False):
                found.append(folder / entry.name)
            else:
                others.append(repr(entry.name))
    if named and others:
        logger.warning(STAYS, folder, listed(others, MOST_NAMED))
    return found


def _use_is_noted(store: os.stat_result, folder: os.stat_result) -> bool:
    """Whether all users who may write to the store and read a folder may also write the folder's time."""
    # The store's group has the group's rights in folders of that group, and those of others in other folders.
    by_group = stat.S_IRWXG if folder.st_gid == store.st_gid else stat.S_IRWXO
    for may_write, rights in ((stat.S_IWGRP, by_group), (stat.S_IWOTH, stat.S_IRWXO)):
        given = folder.st_mode & rights
        if store.st_mode & may_write and given & _READ and not given & _WRITE:
            return False
    return True


def _touched(folder: Path, *, deep: bool = False) -> int:
    """When a folder was changed last, or anything below it, in ns since the epoch."""
    newest = 0
    for path in (folder, *(found_below(folder) if deep else ())):
        with store_errors(path), suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime_ns)
    return newest
