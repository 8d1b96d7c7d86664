"""Lines: text of others that is shown to people, without what a terminal or a log would obey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator


def first_line(error: BaseException) -> str:
    """The first line of what an error says; without any, its kind."""
    return (str(error) or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str], most: int) -> str:
    """Names behind commas, the first ones of many, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shortened(text: str, longest: int) -> str:
    """A text of so many characters at the most: what is cut off is told by an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(map(_shown, text))


def _printable_lines(text: str) -> str:
    return "\n".join(map(_printable, text.split("\n")))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


#: One line: no line breaks, which would begin another one in a log, and no escape sequences or turned directions.
Line = Annotated[str, AfterValidator(_printable)]
#: Several lines, else like one.
Lines = Annotated[str, AfterValidator(_printable_lines)]
