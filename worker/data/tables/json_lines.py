"""JSON Lines: a table as one JSON object a line, with the line of whatever is wrong."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.text_file import read_text

#: Bytes that are parsed in one go.
BLOCK_BYTES = 1 << 30
#: Characters of a line that a message shows.
MOST_SHOWN = 60


def read_json_lines(place: Path, called: str, encoding: str, marks: tuple[str, ...]) -> Rows:
    """Read a file.

    Raises:
        InvalidSpec: it cannot be read; the message says in which line, and why.

    """
    text = read_text(place, called, encoding)
    if not text.strip():
        raise InvalidSpec(f"{called}: is empty")
    data = text.encode()
    try:
        table = arrow_json.read_json(
            pa.BufferReader(data),
            arrow_json.ReadOptions(use_threads=False, block_size=min(len(data) + 1, BLOCK_BYTES)),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        _explain(text, called)
        raise InvalidSpec(f"{called}: {error}") from error
    return Rows.of(table, called, partial(_line_of, text), marks)


def _line_of(text: str, row: int) -> str:
    filled = (number for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return f"line {next(number for place, number in enumerate(filled) if place == row):,}"


def _explain(text: str, called: str) -> None:
    """Say which line is no object, or has a value of another kind than the lines before.

    Raises:
        InvalidSpec: there is one.

    """
    kinds: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InvalidSpec(
                f"{called}, line {number:,}: no JSON ({error}): {shortened(line, MOST_SHOWN)!r}"
            ) from error
        if not isinstance(found, dict):
            raise InvalidSpec(f'{called}, line {number:,}: each line is to be an object, as {{"a": 1, "b": "x"}}')
        for name, value in found.items():
            kind = _kind(value)
            first, where = kinds.setdefault(name, (kind, number)) if kind else ("", 0)
            if kind and kind != first:
                raise InvalidSpec(
                    f"{called}, line {number:,}: '{name}' is {kind}, and {first} in line {where:,}: "
                    f"{shortened(json.dumps(value), MOST_SHOWN)}"
                )


def _kind(value: Any) -> str:
    """What a value is, in the user's words; nothing where it is missing."""
    match value:
        case None:
            return ""
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
    return "a list" if isinstance(value, list) else "an object"
