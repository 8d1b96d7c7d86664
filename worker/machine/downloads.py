"""Downloads: what the failure of one means, whether it can pass, and how the files are had without a network."""

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

#: What torchvision and torch.hub say of a file whose checksum is another one than it should be.
_DAMAGED_ON_ARRIVAL = re.compile(r"File not found or corrupted|invalid hash value")
#: What torchvision says when none of its mirrors gave a file: an error of many, of which only the text is left.
_ALL_MIRRORS = "Error downloading "
#: What a resolver says without a network: the hosts' names are right, as nobody types them.
_UNRESOLVED = frozenset({EAI_AGAIN, EAI_FAIL, EAI_NONAME})
#: Errors that can pass, of which those of a folder are.
_OF_THE_DISK = frozenset(
    {errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENOLCK, errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EMFILE}
)

#: What networks raise, and what readers of files raise where these are damaged.
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
    """Say in words why something cannot be downloaded into a folder, or read there.

    Args:
        what: the thing, as people call it.
        folder: where its files are to be.
        by_hand: how to get them there without a network.

    Raises:
        Unavailable: it is worth another try: no network, a full disk, a file that arrived damaged.
        StageFailed: it is not: the server does not have it, the folder cannot be written, a file there is damaged.

    """
    try:
        yield
    except DistillError:
        raise
    except _OF_FILES_AND_NETWORKS as error:  # No other: a time limit passes here too.
        if memory.is_short(error):
            raise
        text = " ".join(said(error).split()) or type(error).__name__
        missing = f"{what} is not in {folder}, and the download failed: {text}: {by_hand}"
        if _DAMAGED_ON_ARRIVAL.search(text) and not _passes(text):
            raise Unavailable(f"{what} arrived damaged, its checksum is another one: {text}: {by_hand}") from error
        if isinstance(error, URLError) or text.startswith(_ALL_MIRRORS):
            passes = can_pass(error) or _passes(text)
            raise (Unavailable if passes else StageFailed)(missing) from error
        if isinstance(error, OSError) and error.errno is not None and _is_of_the_disk(error):
            problem = f"{what}: {error.filename or folder}: {error.strerror or text}"
            # It is a folder of the store, which is written again when that is.
            passes = can_pass(error) or error.errno == errno.EROFS
            raise (Unavailable if passes else StageFailed)(problem) from error
        if can_pass(error):
            raise Unavailable(missing) from error
        damaged = f"{what}: a file in {folder} is damaged ({text}): remove it, and it is downloaded again"
        raise StageFailed(damaged) from error


def _is_of_the_disk(error: OSError) -> bool:
    """Whether an error says something of a folder and not of a network."""
    return error.errno in _OF_THE_DISK or not can_pass(error)


def _passes(text: str) -> bool:
    """Whether a text with the words of errors of the network names one that can pass."""
    numbers = {int(number) for number in re.findall(r"\[Errno (-?\d+)\]", text)}
    statuses = [int(status) for status in re.findall(r"HTTP Error (\d{3})", text)]
    return bool(numbers & {*_UNRESOLVED, *PASSING_ERRNOS}) or any(map(status_can_pass, statuses))
