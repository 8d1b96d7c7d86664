"""Outages: errors that can pass are told apart from errors that would be the same an hour later."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from email.message import Message
from http.client import IncompleteRead
from types import ModuleType
from urllib.error import HTTPError, URLError
from zipfile import BadZipFile

import pytest
from PIL import UnidentifiedImageError

from distill_queue.worker.machine.outages import can_pass


def numbered(*numbers: int) -> list[OSError]:
    return [OSError(number, os.strerror(number)) for number in numbers]


def answer(status: int) -> HTTPError:
    return HTTPError("http://there/data.zip", status, "", Message(), None)


def client_error(package: str, *names: str, base: type[Exception] = Exception) -> type[Exception]:
    """An error's class as in a client that may not be installed; the later names are those of its bases."""
    for name in reversed(names):
        base = type(name, (base,), {"__module__": f"{package}.exceptions"})
    return base


@pytest.mark.parametrize(
    "error",
    [
        *numbered(errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ETIMEDOUT, errno.ECONNREFUSED),
        *numbered(errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EAGAIN, errno.ENOLCK),
        *numbered(errno.EREMOTEIO, errno.ENFILE, errno.EMFILE),
        ConnectionError("away"),
        TimeoutError("slow"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")),
        URLError(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        answer(503),
        answer(500),
        answer(429),
        IncompleteRead(b"half"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        client_error("requests", "ReadTimeout", "Timeout", base=OSError)("slow"),
        client_error("requests", "ConnectionError", base=OSError)("reset"),
        client_error("botocore", "EndpointConnectionError")("no endpoint"),
        client_error("fsspec", "FSTimeoutError")(),
        RuntimeError("unable to mmap 2728 bytes from file </store/model.safetensors>: Input/output error (5)"),
        client_error("safetensors_rust", "SafetensorError")("I/O error: Stale file handle (os error 116)"),
        client_error("pyarrow.lib", "ArrowException")("[errno 28] Error writing: No space left on device"),
        ValueError("Disk quota exceeded"),
    ],
    ids=repr,
)
def test_an_outage_can_pass(error: Exception) -> None:
    assert can_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        *numbered(errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EROFS),
        OSError("image file is truncated (5 bytes not processed)"),
        UnidentifiedImageError("cannot identify image file 'cat.jpg'"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
        URLError("unknown url type: htp"),
        URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")),
        answer(404),
        answer(401),
        client_error("requests", "SSLError", "ConnectionError", base=OSError)("certificate verify failed"),
        client_error("requests", "MissingSchema", base=OSError)("no scheme"),
        client_error("botocore", "NoCredentialsError")("none"),
        client_error("mine", "ConnectionError")("of my own"),
        ValueError("wrong"),
        SystemExit(503),
    ],
    ids=repr,
)
def test_what_is_wrong_stays_wrong(error: BaseException) -> None:
    assert not can_pass(error)


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def hiding(error: Exception, other: Exception) -> Exception:
    error.__context__ = other
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (hiding(BadZipFile("File is not a zip file"), numbered(errno.EIO)[0]), True),
        (hiding(BadZipFile("File is not a zip file"), numbered(errno.EINVAL)[0]), False),
        (hiding(ValueError("wrong"), numbered(errno.EIO)[0]), False),
        (raised_from(ValueError("no data"), ConnectionError("away")), True),
        (client_error("requests", "ConnectionError", base=OSError)(numbered(errno.ENETUNREACH)[0]), True),
        (client_error("requests", "ConnectionError", base=OSError)(socket.gaierror(socket.EAI_NONAME, "")), False),
        (raised_from(ConnectionError("cannot"), FileNotFoundError(errno.ENOENT, "no such file")), False),
    ],
)
def test_what_lies_deepest_decides(error: Exception, passes: bool) -> None:
    assert can_pass(error) is passes


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = ValueError("round")
    error.args = (error,)

    assert not can_pass(error)


@pytest.mark.parametrize(("status", "passes"), [(404, False), (503, True)])
def test_the_answer_of_a_server_is_read_from_what_clients_make_of_it(status: int, passes: bool) -> None:
    of_requests = client_error("requests", "HTTPError", base=OSError)("an answer")
    of_requests.response = ModuleType("response")  # type: ignore[attr-defined]
    of_requests.response.status_code = status  # type: ignore[attr-defined]
    of_botocore = client_error("botocore", "ClientError")("an answer")
    of_botocore.response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]

    assert (can_pass(of_requests), can_pass(of_botocore)) == (passes, passes)
