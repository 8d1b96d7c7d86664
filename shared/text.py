"""Text of others, made fit to be kept and shown: it can be encoded, has a limited length, and commands no terminal.

It comes from own code, files, the environment, the broker and the store, and goes into terminals, logs, records and
pages. Only this module says how it is changed on the way.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any

#: The most characters of a line, and of a text of several lines.
LONGEST_LINE = 10_000
LONGEST_TEXT = 100_000

#: Categories of characters that are not shown but obeyed, or that no encoding has: controls, which begin a terminal's
#: commands; formats, which turn the direction of what follows; halves of pairs; what begins a line or a paragraph.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Formats that are part of words and emoji: the zero width non-joiner and joiner.
_JOINERS = "\u200c\u200d"
#: Characters that may be one of these; all others are printable ASCII.
_UNUSUAL = re.compile(r"[^\x20-\x7e]")
_UNUSUAL_IN_LINES = re.compile(r"[^\n\t\x20-\x7e]")
_BREAKS = re.compile("\r\n|[\t\n\v\f\r\x85\u2028\u2029]")
#: What programs print to be shown in colours.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
#: How the broker's client reads and writes what is not UTF-8: bytes come back as the bytes that they were, and halves
#: of pairs are written as their numbers.
BYTES_OR_ESCAPES = "bytes-or-escapes"
#: Characters that are kept free for the note that says how many are left out.
_NOTE = 60


def plain_line(text: str, longest: int = LONGEST_LINE) -> str:
    """A text as one line: its line breaks and tabs are spaces, an ellipsis stands for what is too long."""
    if len(text) <= longest and text.isprintable():
        return text
    spaced = _BREAKS.sub(" ", _COLOURS.sub("", text[: longest + 1]))
    whole = _UNUSUAL.sub(_shown, spaced)
    return whole if len(text) <= longest and len(whole) <= longest else f"{whole[: longest - 1]}…"


def plain_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text of several lines, which keeps line breaks and tabs; of one that is too long, the beginning and the end."""
    if len(text) <= longest and text.isprintable():
        return text
    lines = _COLOURS.sub("", _abridged(text, longest)).replace("\r\n", "\n")
    return _abridged(_UNUSUAL_IN_LINES.sub(_shown, lines), longest)


def encodable(text: str) -> str:
    """A text whose halves of surrogate pairs are escaped: JSON and file names may hold them, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def said(error: BaseException, longest: int = LONGEST_TEXT) -> str:
    """The text of an error; an error that own code defines may raise another one when it is converted to text."""
    try:
        text = str(error)
    except Exception as failure:
        text = f"its text cannot be had: {type(failure).__name__}"
    return plain_text(text, longest)


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON of a value, in which no character is one that a terminal obeys; programs read it as the value it was."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    return _UNUSUAL_IN_LINES.sub(lambda found: _shown(found, json.dumps), text)


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error(BYTES_OR_ESCAPES, _bytes_or_escapes)


def _shown(found: re.Match[str], literal: Any = ascii) -> str:
    """A character, or its escape as in a Python or JSON literal if a terminal would obey it."""
    character = found[0]
    hidden = unicodedata.category(character) in _HIDDEN and character not in _JOINERS
    return str(literal(character)[1:-1]) if hidden else character


def _abridged(text: str, longest: int) -> str:
    """A text cut to so many characters, in the middle: the last line of a traceback says the most."""
    if len(text) <= longest:
        return text
    room = longest - _NOTE
    beginning = room // 4
    note = f"\n… {len(text) - room:,} characters are left out …\n"
    return f"{text[:beginning]}{note}{text[beginning - room :]}"
