"""Outages: which errors can pass by themselves, so that another try makes sense."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from zipfile import BadZipFile

from distill_queue.shared.errors import InvalidSpec, StoreUnavailable, store_errors
from distill_queue.shared.line import first_line

#: Numbers of the system's errors that can pass by themselves, and what passes. Not among them are errors of a name or a
#: right, such as ENOENT, EACCES, EISDIR, ENAMETOOLONG and EINVAL.
PASSING_ERRNOS: dict[int, str] = {
    errno.EIO: "a disk or a network share that does not answer",
    errno.EREMOTEIO: "the same, at the share's server",
    errno.ESTALE: "a file of a network share that was replaced meanwhile",
    errno.ENOLCK: "a network share's locks are all taken",
    errno.ENOSPC: "a full disk, until there is room again",
    errno.EDQUOT: "a full quota, until there is room again",
    errno.EAGAIN: "something that is busy",
    errno.EBUSY: "the same",
    errno.EINTR: "a call that was interrupted",
    errno.ENFILE: "too many open files on the machine, until others close some",
    errno.EMFILE: "too many open files of the process, until a new one is started",
    errno.ENOBUFS: "the network's buffers",
    errno.ETIMEDOUT: "a server or a network that is slow or away",
    errno.ECONNREFUSED: "a server that is being started again",
    errno.ECONNRESET: "the same",
    errno.ECONNABORTED: "the same",
    errno.EPIPE: "the same",
    errno.EHOSTDOWN: "a machine that is down",
    errno.EHOSTUNREACH: "a network that is down on the way to the server",
    errno.ENETUNREACH: "a network that is down here",
    errno.ENETDOWN: "the same",
    errno.ENETRESET: "the same",
}

#: The system's words for those errors that disks and shares have.
_OF_DISKS = {
    os.strerror(number)
    for number in (errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EMFILE)
}
#: How libraries quote an error of the system in an error of their own: torch "unable to open file <…>:
#: Stale file handle (116)", safetensors "Input/output error (os error 5)", Arrow "[errno 28] No space left on device".
_SAID = re.compile("|".join(map(re.escape, sorted(_OF_DISKS))))

#: Errors of network clients that can pass by themselves, by the package's name; none of the packages is needed.
PASSING_OF_CLIENTS: dict[str, frozenset[str]] = {
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "azure": frozenset({"ServiceRequestError", "ServiceResponseError"}),
    "botocore": frozenset({"ConnectionError", "ConnectionClosedError", "EndpointConnectionError", "HTTPClientError"}),
    "fsspec": frozenset({"FSTimeoutError"}),
    "google": frozenset({"RetryError", "TransportError"}),
    "http": frozenset({"BadStatusLine", "IncompleteRead"}),
    "httpx": frozenset({"NetworkError", "RemoteProtocolError", "TimeoutException"}),
    "httpx2": frozenset({"NetworkError", "RemoteProtocolError", "TimeoutException"}),
    "requests": frozenset({"ChunkedEncodingError", "ConnectionError", "Timeout"}),
    "ssl": frozenset({"SSLEOFError", "SSLZeroReturnError"}),
    "urllib3": frozenset({"HTTPError"}),
}
#: Errors of these clients about a certificate, a name or a number of tries, which by themselves are no outage.
LASTING_OF_CLIENTS: dict[str, frozenset[str]] = {
    "botocore": frozenset({"SSLError"}),
    "requests": frozenset({"SSLError"}),
    "ssl": frozenset({"SSLError"}),
    "urllib3": frozenset({"SSLError", "LocationValueError"}),
}

#: Answers of HTTP servers that can pass, beside all from 500 on: too slow, too early, too many requests.
PASSING_STATUSES = frozenset({408, 425, 429})


def can_pass(error: BaseException) -> bool:
    """Whether an error can pass by itself; of an error and its causes, the deepest one that tells decides."""
    verdicts = [verdict for each in _behind(error) if (verdict := _verdict(each)) is not None]
    return bool(verdicts) and verdicts[-1]


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Tell a file of the store that cannot be read from one with a wrong content, which libraries confuse.

    Raises:
        StoreUnavailable: the file cannot be read, even if the code that reads it raises `InvalidSpec`.

    """
    with store_errors(path):
        path.open("rb").close()  # For any error of opening a file, safetensors says "No such file".
        try:
            yield
        except InvalidSpec as error:
            if isinstance(error.__cause__, OSError) or can_pass(error):
                raise StoreUnavailable(f"store: {path}: {first_line(error.__cause__ or error)}") from error
            raise


def status_can_pass(status: int) -> bool:
    """Whether a server with this answer may give another one a minute later."""
    return status >= 500 or status in PASSING_STATUSES


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error, then the errors that it has as its cause, its reason, or an argument."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        # `zipfile` says that an archive which cannot be read is no archive, and names no cause.
        hidden = each.__context__ if isinstance(each, BadZipFile) else None
        related = (each.__cause__, hidden, getattr(each, "reason", None), *each.args)
        waiting += [other for other in related if isinstance(other, BaseException)]


def _verdict(error: BaseException) -> bool | None:
    """Whether an error, without its causes, can pass; None if it does not tell."""
    if not isinstance(error, Exception):
        return None
    if (status := _status(error)) is not None:
        return status_can_pass(status)
    if isinstance(error, socket.gaierror):  # EAI_AGAIN also comes without a network; an unknown name is EAI_NONAME.
        return error.errno == socket.EAI_AGAIN
    if _is_of(LASTING_OF_CLIENTS, error) and not _is_of({"ssl": PASSING_OF_CLIENTS["ssl"]}, error):
        return False
    if isinstance(error, ConnectionError | TimeoutError) or _is_of(PASSING_OF_CLIENTS, error):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING_ERRNOS
    return True if any(isinstance(said, str) and _SAID.search(said) for said in error.args) else None


def _is_of(known: dict[str, frozenset[str]], error: Exception) -> bool:
    """Whether an error is of one of the classes that are named by package and class."""
    return any(each.__name__ in known.get(_package(each), ()) for each in type(error).__mro__)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _status(error: Exception) -> int | None:
    """The HTTP status in a network client's error, if there is one."""
    if isinstance(error, HTTPError):
        return error.code
    if not any(_package(each) in PASSING_OF_CLIENTS for each in type(error).__mro__):
        return None
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # Botocore's.
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None) or getattr(error, "status", None) or getattr(error, "code", None)
    return found if isinstance(found, int) and found >= 400 else None
