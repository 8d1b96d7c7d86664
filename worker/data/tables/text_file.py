"""Text files: the text in a file of the user's, in the encoding that the spec says."""

from __future__ import annotations

import codecs
from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoFile, opened

#: Bytes of what cannot be decoded that a message shows.
MOST_SHOWN = 4


def read_text(place: Path, called: str, encoding: str) -> str:
    """The text of a file, without the mark that some programs begin it with.

    Args:
        place: the file.
        called: what messages call it.
        encoding: Python's name of it.

    Raises:
        InvalidSpec: it is no file, or not in this encoding; the message says where.

    """
    try:
        with opened(place) as file:
            data = file.read()
    except NoFile as error:
        raise InvalidSpec(f"{called}: {error}") from error
    try:
        return data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        raise no_text(called, encoding, error) from error


def no_text(called: str, encoding: str, error: UnicodeError, start: int = 0, lines: int = 0) -> InvalidSpec:
    """The error of a file that is in another encoding, with the place in it.

    Args:
        called: what messages call the file.
        encoding: Python's name of the one that was expected.
        error: the decoder's.
        start: the place in the file of the first byte that was decoded.
        lines: how many lines end before it.

    """
    if not isinstance(error, UnicodeDecodeError):
        return InvalidSpec(f"{called}: not {encoding} ({error})")
    # Of an encoding that keeps line ends as single bytes; others are rarely wrong in the middle.
    line = lines + error.object.count(b"\n", 0, error.start) + 1
    wrong = error.object[error.start : error.start + MOST_SHOWN].hex(" ")
    hint = "" if encoding.lower() in ("latin-1", "cp1252") else ": perhaps encoding: latin-1 (or cp1252)"
    if not start and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        hint = ": perhaps encoding: utf-16"
    place = f"byte {start + error.start:,} of the file: {wrong}"
    return InvalidSpec(f"{called}, line {line:,}: not {encoding} ({place}){hint}")
