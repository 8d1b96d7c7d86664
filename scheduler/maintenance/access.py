"""Access: files and folders of a shared store that this user cannot use, or that others could not."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.folders import GONE, draft_folder, found_below

READ, WRITE = os.R_OK, os.R_OK | os.W_OK
ENTER, WORK = READ | os.X_OK, WRITE | os.X_OK
#: The rights that each user needs in the folders that users share: on folders, and on files. The store's other folders
#: belong to one user: the server's data, Flower's history.
COMMON = {
    "artifacts": (WORK, READ),
    "pipelines": (WORK, READ),
    "partial": (WORK, WRITE),
    "damaged": (WORK, READ),
    "trash": (WORK, READ),
    "reports": (WORK, READ),
    "downloads": (ENTER, READ),
    "logs": (WORK, WRITE),
    "fresh": (WORK, WRITE),
}
#: Seconds after which looking at a large store ends.
LOOK_SECONDS = 10.0


def first_obstacle(store: Path) -> str:
    """The first file or folder found in a store that this user cannot use, in words; empty if there is none.

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
    """Why others, to whom a store is open, could not use what this user makes there; empty if they could.

    Raises:
        OSError: this user cannot make a folder there.

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
        return f"the group {_group(status.st_gid)} cannot write what this user makes there (mode {mode:04o})"
    return ""


def _obstacles(store: Path) -> Iterator[str]:
    """For each file and folder, what this user cannot do with it, or ""; a folder comes before its contents."""
    yield _of_folder(store, WORK)
    for name, (in_folders, with_files) in COMMON.items():
        yield _of_folder(store / name, WORK)
        for path in found_below(store / name):
            yield _of_folder(path, in_folders) if path.is_dir() else _of_file(path, with_files)


def _of_folder(folder: Path, wanted: int) -> str:
    """What this user cannot do with a folder; moving it needs the right to write the folder and the one around it."""
    with suppress(*GONE):
        status = folder.stat()
        if missing := _missing(folder, wanted):
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
    """Words for the wanted rights that this user lacks."""
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
