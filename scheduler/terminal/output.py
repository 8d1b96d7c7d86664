"""Output: all that the commands print, as text and never as commands to the terminal."""

from __future__ import annotations

import codecs
import csv
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import IO, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from distill_queue.shared.text import json_text, plain_line, plain_text

#: Values of a list that are printed as JSON at once.
PAGE_VALUES = 100


class Terminal(Console):
    """A console that takes every string as plain text; text with a style is a `Text`.

    So text that others have written cannot command the terminal, or make a link or a colour: neither by escape
    sequences nor by rich's markup.
    """

    def __init__(
        self, *, soft_wrap: bool = False, width: int | None = None, stderr: bool = False, file: IO[str] | None = None
    ) -> None:
        super().__init__(
            markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap, width=width, stderr=stderr, file=file
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a string, before it is measured."""
        return super().render_str(_plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is printed, made plain; rich's own commands, such as those that move the cursor, stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_plain(segment.text), segment.style)


class PlainFormatter(logging.Formatter):
    """Writes the lines that libraries and this program log, without characters that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        return plain_text(super().format(record))


def show_logs() -> None:
    """Make plain the warnings that Python itself prints while logging is not set up."""
    if logging.lastResort:
        logging.lastResort.setFormatter(PlainFormatter())


def say(text: object, *, err: bool = False) -> None:
    """Print one line, such as a path or an id, for people and programs alike."""
    typer.echo(plain_line(str(text)), err=err)


def print_json(value: Any, *, indent: int | None = 1) -> None:
    """Print a value as JSON, in the characters that the output has."""
    typer.echo(_json(value, indent))


def print_json_list(values: Iterable[Any], around: Callable[[list[Any]], Any] = list) -> None:
    """Print a list of values as JSON, page by page, so that it can be long.

    Args:
        values: the list's values.
        around: puts the list, or a page of it, into the whole that it is a part of; no null comes before it.

    """
    left = iter(values)
    before, _, after = _json(around([None]), 1).partition("null")
    written, between = False, "," + before[before.rindex("\n") :]
    while page := list(islice(left, PAGE_VALUES)):
        text = _json(around(page), 1).removeprefix(before).removesuffix(after)
        typer.echo((between if written else before) + text, nl=False)
        written = True
    typer.echo(after if written else _json(around([]), 1))


def print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows that have the same keys as comma-separated values, with a line of names first."""
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: plain_line(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )


def _json(value: Any, indent: int | None) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json_text(value, indent=indent, ascii_only=codecs.lookup(encoding).name != "utf-8")


def _plain(text: str) -> str:
    """A piece of text made plain, at full length: text that is too long was cut where it came in."""
    return plain_text(text, sys.maxsize)
