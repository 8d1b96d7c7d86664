"""What of a store's folder this user cannot use beside those who also work there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shared.errors import store_errors
from shared.folders import GONE, draft_folder, found_below

#: Folders that every user of a store works in. The others are of one user: the server's data, Flower's history.
COMMON = ("artifacts", "pipelines", "partial", "damaged", "trash", "reports", "downloads", "logs", "fresh")
#: Those whose files are written again where they lie, and not replaced by others.
WRITTEN_AGAIN = ("partial", "logs", "fresh")
#: Seconds after which a large store has been looked at for long enough.
LOOK_SECONDS = 10.0


def first_obstacle(store: Path) -> str:
    """The first file or folder of a store that this user cannot use, in words; empty if all that was seen can be.

    Raises:
        StoreUnavailable: a folder cannot be read.

    """
    deadline = time.monotonic() + LOOK_SECONDS
    with store_errors(store):
        for obstacle in _obstacles(store):
            if obstacle or time.monotonic() > deadline:
                return obstacle
    return ""


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


def _obstacles(store: Path) -> Iterator[str]:
    """For each file and folder what this user cannot do with it, if anything; a folder comes before what lies in it."""
    yield _of_folder(store)
    for name in COMMON:
        yield _of_folder(store / name)
        for path in found_below(store / name):
            if path.is_dir():
                yield _of_folder(path)
            else:
                yield _of_file(path, os.R_OK | (os.W_OK if name in WRITTEN_AGAIN else 0))


def _of_folder(folder: Path) -> str:
    """To move a folder takes the right to write where it lies, and the right to write the folder itself."""
    with suppress(*GONE):
        status = folder.stat()
        if missing := _missing(folder, os.R_OK | os.W_OK | os.X_OK):
            return _in_words(folder, status, missing)
        if status.st_mode & stat.S_ISVTX and os.geteuid() not in (0, status.st_uid):
            return _in_words(folder, status, "move what others have made in")
    return ""


def _of_file(file: Path, wanted: int) -> str:
    with suppress(*GONE):
        status = file.stat()
        if missing := _missing(file, wanted):
            return _in_words(file, status, missing)
    return ""


def _missing(path: Path, wanted: int) -> str:
    """Which of some rights this user lacks."""
    names = {os.R_OK: "read", os.W_OK: "write", os.X_OK: "enter"}
    effective = os.access in os.supports_effective_ids
    return " or ".join(
        name for right, name in names.items() if right & wanted and not os.access(path, right, effective_ids=effective)
    )


def _in_words(path: Path, status: os.stat_result, cannot: str) -> str:
    owner = f"{_user(status.st_uid)}:{_group(status.st_gid)}"
    return f"{path}: this user cannot {cannot} it ({owner}, mode {stat.S_IMODE(status.st_mode):04o})"


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
