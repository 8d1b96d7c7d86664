"""Temporary files and locks: what a process needs of its machine even where its file system is read-only."""

from __future__ import annotations

import multiprocessing
import os
import tempfile

from distill_queue.shared.errors import Unavailable

#: In memory, and writable in containers whose root is not.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a last resort; tempfile's names cannot be guessed)


def provide_folder() -> None:
    """Have this process and its children put temporary files into memory if no usual folder can be written.

    Raises:
        Unavailable: the folder in memory cannot be written either.

    """
    if _has_folder():
        return
    os.environ["TMPDIR"] = SHARED_MEMORY
    if not _has_folder():
        raise Unavailable(
            f"no folder for temporary files can be written, not even {SHARED_MEMORY}: mount one, as "
            "'docker run --tmpfs /tmp' does, or name one in TMPDIR"
        )


def require_locks() -> None:
    """Check that processes can share locks.

    Raises:
        Unavailable: they cannot.

    """
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise Unavailable(
            f"processes cannot share locks here ({error.strerror or error}): {SHARED_MEMORY} is to be writable, as "
            f"with 'docker run --tmpfs {SHARED_MEMORY}'"
        ) from error


def _has_folder() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True
