"""JSON Lines: a table as one JSON object a line, with the line of whatever is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import json as arrow_json

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.text_stream import TextStream, lines, parsed
from distill_queue.worker.machine.runtime import Report

#: Characters of a line that a message shows.
MOST_SHOWN = 60


def read_json_lines(place: Path, called: str, encoding: str, marks: tuple[str, ...], report: Report) -> Rows:
    """Read a file.

    Args:
        place: the file.
        called: what messages call it.
        encoding: Python's name of its encoding.
        marks: texts that stand for a missing value.
        report: called with how far it is; what it raises ends the reading.

    Raises:
        InvalidSpec: it cannot be read; the message says in which line, and why.

    """
    table, stream = parsed(place, called, encoding, _parse, report)
    if not stream.has_text:
        raise InvalidSpec(f"{called}: is empty")
    if isinstance(table, pa.ArrowException):
        _explain(place, called, encoding)
        raise InvalidSpec(f"{called}: {table}") from table
    return Rows.of(table, called, partial(_line_of, place, called, encoding), marks)


def _parse(stream: TextStream, block_bytes: int) -> Any:
    """The table in a stream."""
    options = arrow_json.ReadOptions(use_threads=False, block_size=block_bytes)
    return arrow_json.read_json(pa.PythonFile(stream, "r"), options)


def _line_of(place: Path, called: str, encoding: str, row: int) -> str:
    """Where a row stands. The file is read again: this is only asked of a row that something is wrong with."""
    with _numbered(place, called, encoding) as filled:
        number = next(islice((number for number, _ in filled), row, None), None)
    return f"row {row + 1:,}" if number is None else f"line {number:,}"


@contextmanager
def _numbered(place: Path, called: str, encoding: str) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines that are not empty, with their numbers."""
    with lines(place, called, encoding, "\n") as text:
        yield ((number, line) for number, line in enumerate(text, 1) if line.strip())


def _explain(place: Path, called: str, encoding: str) -> None:
    """Say which line is no object, or has a value of another kind than the lines before.

    Raises:
        InvalidSpec: there is one.

    """
    kinds: dict[str, tuple[str, int]] = {}
    with _numbered(place, called, encoding) as filled:
        for number, line in filled:
            _explain_line(f"{called}, line {number:,}", line, number, kinds)


def _explain_line(at: str, line: str, number: int, kinds: dict[str, tuple[str, int]]) -> None:
    """Say what is wrong with a line; note the kind of each name's first value, and the number of its line."""
    line = line.strip()
    try:
        found = json.loads(line, object_pairs_hook=_without_repetition)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        way = "; each line is to be an object, and this file seems to be one document" if line in ("[", "{") else ""
        shown = repr(shortened(line, MOST_SHOWN))
        raise InvalidSpec(f"{at}: no JSON ({error.msg} at character {error.colno}): {shown}{way}") from error
    except UnicodeEncodeError as error:
        raise InvalidSpec(f"{at}: has half of a character ({error.object[error.start]!r})") from error
    except RecursionError as error:
        raise InvalidSpec(f"{at}: is nested too deeply") from error
    except _Repeated as error:
        raise InvalidSpec(f"{at}: has '{error}' twice") from error
    if not isinstance(found, dict):
        raise InvalidSpec(f'{at}: each line is to be an object, as {{"a": 1, "b": "x"}}')
    for name, value in found.items():
        kind = _kind(value)
        first, where = kinds.setdefault(name, (kind, number)) if kind else ("", 0)
        if kind and kind != first:
            shown = shortened(json.dumps(value), MOST_SHOWN)
            raise InvalidSpec(f"{at}: '{name}' is {kind}, and {first} in line {where:,}: {shown}")


class _Repeated(ValueError):
    """An object has a name twice."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        _Repeated: a name is there twice.

    """
    names = Counter(name for name, _ in pairs)
    if len(names) < len(pairs):
        raise _Repeated(names.most_common(1)[0][0])
    return dict(pairs)


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
