"""Lines: text of others in records, cleaned as it comes in; and how names are listed and cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from distill_queue.shared.text import plain_line, plain_text, said


def first_line(error: BaseException) -> str:
    """The first line of what an error says; without any, its kind."""
    return (said(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str], most: int) -> str:
    """Names behind commas, the first ones of many, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shortened(text: str, longest: int) -> str:
    """A text cut to at most so many characters; where something is cut off, the last one is an ellipsis.

    Unlike `plain_line` it changes no other character: the error or the record that the text becomes part of makes it
    plain, and what is put between quotes by `repr` must not be escaped twice.
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _sealed(text: str) -> str:
    """A line in which characters that Python does not call printable are a space or U+FFFD instead."""
    line = plain_line(text)
    return "".join(
        each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in line
    )


#: One line: no line breaks, which would begin another one in a log, and no escape sequences or turned directions.
Line = Annotated[str, AfterValidator(plain_line)]
#: One line that a manifest's checksum covers: it is read as it was written, also by earlier versions, which know no
#: other spaces and no joiners in it.
SealedLine = Annotated[str, AfterValidator(_sealed)]
#: Several lines, else like `Line`.
Lines = Annotated[str, AfterValidator(plain_text)]
