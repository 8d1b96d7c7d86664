"""Given files: files that a user names, whose kind and size are not known before they are read."""

from __future__ import annotations

import os
import select
import stat
import time
from io import FileIO
from pathlib import Path

from distill_queue.shared.errors import InvalidInput, InvalidSettings
from distill_queue.shared.files.files import NoFile, opened
from distill_queue.shared.line import shortened

#: Seconds within which a writer has to open a pipe, and within which it has to come to its end.
WRITER_SECONDS = 1.0
PIPE_SECONDS = 60.0
#: The most characters of a path in a message.
LONGEST_PATH = 200

_NUL = "no path of a file: it has a NUL"


def read_text(path: Path, most_bytes: int) -> str:
    """The text in a file, or in a pipe that something writes to, such as `<(command)`, up to a limit.

    Raises:
        InvalidInput: it cannot be read, is larger, is not UTF-8, or does not end in time.

    """
    try:
        data = _read(path, most_bytes)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{shown(path)}: {_why(error)}") from error
    if len(data) > most_bytes:
        raise InvalidInput(f"{shown(path)}: larger than {most_bytes:,} bytes")
    try:
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{shown(path)}: not UTF-8 text (byte {error.start})") from None


def require_file(path: Path, most_bytes: int) -> None:
    """Refuse a path that other code is to read, unless it is a regular file: a pipe or device might never end.

    Raises:
        InvalidInput: it is no file, is larger than allowed, or cannot be opened.

    """
    try:
        with opened(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
    except NoFile as error:
        raise InvalidInput(f"{shown(path)}: {error}") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{shown(path)}: {_why(error)}") from error
    if size_bytes > most_bytes:
        raise InvalidInput(f"{shown(path)}: larger than {most_bytes:,} bytes")


def require_path(path: Path) -> None:
    """Refuse a path with a NUL, for which Python would raise a `ValueError`.

    Raises:
        InvalidSettings: it has a NUL.

    """
    if "\0" in str(path):
        raise InvalidSettings(f"{shown(path)}: {_NUL}")


def shown(path: Path | str) -> str:
    """A path for a message."""
    return shortened(str(path), LONGEST_PATH)


def _why(error: OSError | ValueError) -> str:
    """Why a path cannot be used: Python raises a `ValueError` for one with a NUL."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else _NUL


def _read(path: Path, most_bytes: int) -> bytes:
    """The content of a file, up to one byte more than allowed."""
    # Opened without waiting: a pipe without a writer would keep `open` for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with FileIO(descriptor, "r") as file:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        data, deadline, may_be_early = bytearray(), time.monotonic() + PIPE_SECONDS, is_pipe
        while len(data) <= most_bytes:
            piece = file.read(most_bytes + 1 - len(data))
            if piece is None:  # The pipe's writer has nothing to say yet.
                if not _is_ready(file, deadline - time.monotonic()):
                    raise OSError(0, f"did not end within {PIPE_SECONDS:.0f} s")
            elif piece:
                data += piece
            elif may_be_early:  # The pipe's writer may be about to open it.
                _is_ready(file, WRITER_SECONDS)
            else:
                break
            may_be_early = False
        if is_pipe and not data:
            raise OSError(0, "a pipe that nothing writes to")
        return bytes(data)


def _is_ready(file: FileIO, seconds: float) -> bool:
    """Wait until there is something to read, or the end."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))
