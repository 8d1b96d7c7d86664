"""Downloads: what a failed download means, whether it is worth another try, and how to do without a network."""

from __future__ import annotations

import errno
import lzma
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from socket import EAI_AGAIN, EAI_FAIL, EAI_NONAME
from urllib.error import URLError

from distill_queue.shared.errors import DistillError, StageFailed, Unavailable
from distill_queue.shared.text import said
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.outages import PASSING_ERRNOS, can_pass, status_can_pass

#: How torchvision and torch.hub say that a file has the wrong checksum.
_DAMAGED_ON_ARRIVAL = re.compile(r"File not found or corrupted|invalid hash value")
#: How torchvision's error begins when all mirrors failed; only the text is left of the errors that it sums up.
_ALL_MIRRORS = "Error downloading "
#: A resolver's errors without a network; none of them means a wrong name, as no user types these hosts' names.
_UNRESOLVED = frozenset({EAI_AGAIN, EAI_FAIL, EAI_NONAME})
#: Errors that can pass and concern a folder, not a network.
_OF_THE_DISK = frozenset(
    {errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENOLCK, errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EMFILE}
)

#: Errors of networks, and of readers of damaged files.
_OF_FILES_AND_NETWORKS: tuple[type[Exception], ...] = (
    AssertionError,
    EOFError,
    HTTPException,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    pickle.UnpicklingError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def downloading(what: str, folder: Path, by_hand: str) -> Iterator[None]:
    """Turn the errors of downloading something into a folder, or of reading it there, into messages for people.

    Args:
        what: the name of what is downloaded, for people.
        folder: the folder for its files.
        by_hand: how to get the files there without a network.

    Raises:
        Unavailable: another try may help: no network, a full disk, a file that arrived damaged.
        StageFailed: another try cannot help: the server lacks the file, the folder cannot be written, a file in it is
            damaged.

    """
    try:
        yield
    except DistillError:
        raise
    except _OF_FILES_AND_NETWORKS as error:  # No others: the exception of a time limit comes through here too.
        if memory.is_short(error):
            raise
        text = " ".join(said(error).split()) or type(error).__name__
        missing = f"{what} is not in {folder}, and the download failed: {text}: {by_hand}"
        if _DAMAGED_ON_ARRIVAL.search(text) and not _passes(text):
            raise Unavailable(f"{what} arrived damaged, with another checksum: {text}: {by_hand}") from error
        if isinstance(error, URLError) or text.startswith(_ALL_MIRRORS):
            passes = can_pass(error) or _passes(text)
            raise (Unavailable if passes else StageFailed)(missing) from error
        if isinstance(error, OSError) and error.errno is not None and _is_of_the_disk(error):
            problem = f"{what}: {error.filename or folder}: {error.strerror or text}"
            # The folder is in the store: a read-only store passes like one that is away.
            passes = can_pass(error) or error.errno == errno.EROFS
            raise (Unavailable if passes else StageFailed)(problem) from error
        if can_pass(error):
            raise Unavailable(missing) from error
        damaged = f"{what}: a file in {folder} is damaged ({text}): remove it, and it is downloaded again"
        raise StageFailed(damaged) from error


def _is_of_the_disk(error: OSError) -> bool:
    """Whether an error concerns a folder and not a network."""
    return error.errno in _OF_THE_DISK or not can_pass(error)


def _passes(text: str) -> bool:
    """Whether the text of network errors names one that can pass."""
    numbers = {int(number) for number in re.findall(r"\[Errno (-?\d+)\]", text)}
    statuses = [int(status) for status in re.findall(r"HTTP Error (\d{3})", text)]
    return bool(numbers & {*_UNRESOLVED, *PASSING_ERRNOS}) or any(map(status_can_pass, statuses))
