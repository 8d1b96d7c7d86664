"""What of a store's folder this user cannot use beside those who also work there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.folders import GONE, draft_folder, found_below

#: Folders that every user of a store works in. The others are of one user: the server's data, Flower's history.
COMMON = ("artifacts", "pipelines", "partial", "damaged", "trash", "reports", "downloads", "logs", "fresh")
#: Those whose files are written again where they lie, and not replaced by others.
WRITTEN_AGAIN = ("partial", "logs", "fresh")
#: Seconds after which a large store has been looked at for long enough.
LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A file or folder, and what this user cannot do with it."""

    path: Path
    cannot: str

    def __str__(self) -> str:
        status = self.path.lstat()
        owner = f"{_user(status.st_uid)}:{_group(status.st_gid)}"
        return f"{self.path}: this user cannot {self.cannot} it ({owner}, mode {stat.S_IMODE(status.st_mode):04o})"


def first_obstacle(store: Path) -> Obstacle | None:
    """The first file or folder of a store that this user cannot use; None where all that was looked at can be."""
    deadline = time.monotonic() + LOOK_SECONDS
    for obstacle in _below(store):
        if obstacle or time.monotonic() > deadline:
            return obstacle
    return None


def closed_to_others(store: Path) -> str:
    """What keeps others, whom a store is open to, from what this user makes there, in words; empty if nothing does.

    Raises:
        OSError: nothing can be made there.

    """
    status = store.stat()
    if not status.st_mode & stat.S_IWGRP:
        return ""
    with draft_folder(store, "doctor-") as folder:
        made = folder.stat()
    if made.st_gid != status.st_gid:
        return f"what this user makes there belongs to the group {_group(made.st_gid)}, not to {_group(status.st_gid)}"
    if not made.st_mode & stat.S_IWGRP:
        mode = stat.S_IMODE(made.st_mode) & 0o777
        return f"what this user makes there the group {_group(status.st_gid)} cannot write (mode {mode:04o})"
    return ""


def _below(store: Path) -> Iterator[Obstacle | None]:
    """For each file and folder what this user cannot do with it, if anything; a folder comes before what lies in it."""
    yield _of_folder(store)
    for name in COMMON:
        yield _of_folder(store / name)
        for path in found_below(store / name):
            if path.is_dir():
                yield _of_folder(path)
            else:
                yield _of_file(path, os.R_OK | (os.W_OK if name in WRITTEN_AGAIN else 0))


def _of_folder(folder: Path) -> Obstacle | None:
    """To move a folder takes the right to write where it lies, and the right to write the folder itself."""
    wanted = os.R_OK | os.W_OK | os.X_OK
    with suppress(*GONE):
        status = folder.stat()
        if not _may(folder, wanted):
            return Obstacle(folder, _words(folder, wanted))
        if status.st_mode & stat.S_ISVTX and os.geteuid() not in (0, status.st_uid):
            return Obstacle(folder, "rename or remove what others have made in")
    return None


def _of_file(file: Path, wanted: int) -> Obstacle | None:
    with suppress(*GONE):
        file.stat()
        return None if _may(file, wanted) else Obstacle(file, _words(file, wanted))
    return None


def _may(path: Path, rights: int) -> bool:
    return os.access(path, rights, effective_ids=os.access in os.supports_effective_ids)


def _words(path: Path, wanted: int) -> str:
    names = {os.R_OK: "read", os.W_OK: "write", os.X_OK: "enter"}
    return " or ".join(word for right, word in names.items() if right & wanted and not _may(path, right))


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
