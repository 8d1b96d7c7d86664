"""Markup: TOML and JSON that users write, as plain values, and the limits that hold for these and for YAML.

A text is measured before it costs time or memory.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from typing import Any

from distill_queue.shared.line import shortened

#: Values in one text, aliases written out.
MOST_VALUES = 50_000
#: How deeply mappings and lists may be nested.
DEEPEST = 64
#: The most digits of an integer: fewer than a floating point number can have before its point.
MOST_DIGITS = 300

_TOML_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
#: A TOML key with more parts than there may be levels.
_LONG_KEY = re.compile(rf"{_TOML_PART}(?:[ \t]*+\.[ \t]*+{_TOML_PART}){{{DEEPEST}}}")

Location = tuple[str | int, ...]


class Malformed(ValueError):
    """A text that is not of its format, or has too much of something; `line` counts from 1, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_json(text: str) -> Any:
    """The value of a JSON document.

    Raises:
        Malformed: it is no JSON, has a key twice in a mapping, or is beyond the limits.

    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise Malformed(f"the key '{shortened(twice, 100)}' stands there twice in one mapping")
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise Malformed(f"not valid JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise too_deep() from None
    except Malformed:
        raise
    except ValueError:  # The number has more digits than Python reads.
        raise too_long() from None
    require_plain(value)
    return value


def parse_toml(text: str) -> Any:
    """The value of a TOML document.

    Raises:
        Malformed: it is no TOML, or is beyond the limits.

    """
    if sum(map(text.count, "=[,")) > MOST_VALUES:  # Each value comes after one of these.
        raise too_many()
    if _LONG_KEY.search(text):  # The parser's time grows with the square of a key's parts.
        raise too_deep()
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"not valid TOML: {error}") from None
    except RecursionError:
        raise too_deep() from None
    except ValueError:
        raise too_long() from None
    require_plain(value)
    return value


def require_plain(value: Any) -> int:
    """Count values; refuse a value beyond the limits, and text that no message, file or broker could carry.

    Raises:
        Malformed: it is nested too deeply, has too many values, a number too long, or half a character.

    """
    count, open_values = 0, [(value, 0)]
    while open_values:
        value, depth = open_values.pop()
        count += 1
        if depth > DEEPEST:
            raise too_deep()
        if count + len(open_values) > MOST_VALUES:
            raise too_many()
        if isinstance(value, str):
            _require_characters(value)
        elif isinstance(value, int):
            if abs(value) >= 10**MOST_DIGITS:
                raise too_long()
        elif isinstance(value, dict):
            for key in value:
                if isinstance(key, str):
                    _require_characters(key)
                elif not isinstance(key, int | float | None):
                    raise Malformed(f"a key is text, not {shortened(repr(key), 60)}")
            open_values.extend((each, depth + 1) for each in value.values())
        elif isinstance(value, list | tuple):
            open_values.extend((each, depth + 1) for each in value)
    return count


def _require_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed("has an escape that is no character") from None


def too_deep(line: int | None = None) -> Malformed:
    """The error of values that are nested too deeply."""
    return Malformed(f"nested too deeply: more than {DEEPEST} levels", line)


def too_many(line: int | None = None) -> Malformed:
    """The error of a text with too many values."""
    return Malformed(f"more than {MOST_VALUES:,} values, aliases written out", line)


def too_long(line: int | None = None) -> Malformed:
    """The error of a number with too many digits."""
    return Malformed(f"a number of more than {MOST_DIGITS} digits", line)
