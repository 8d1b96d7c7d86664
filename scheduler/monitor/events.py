"""Events, cleaned for Flower: anybody who may write to the broker can send events, and no event is signed.

Flower copies each field of an event into what its pages show. A text in place of a number, or an unknown field, makes
every later view of the page end with an error.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

#: The most characters of a text that are kept.
LONGEST_TEXT = 10_000
#: Numbers of a machine's load: of the last 1, 5 and 15 minutes.
LOADS = 3
#: Seconds since the epoch, and other numbers, that pages can show: up to the year 2096, and what float64 counts with.
LATEST, LARGEST = 4e9, 2.0**53
#: The most hours between a time zone and UTC.
FURTHEST = 26


def _text(value: object) -> str | None:
    """A text that can be sent to a browser."""
    if not isinstance(value, str):
        return None
    return value[:LONGEST_TEXT].encode(errors="replace").decode()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= LARGEST and math.isfinite(value) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and _number(value) is not None else None


def _time(value: object) -> float | None:
    seconds = _number(value)
    return seconds if seconds is not None and seconds <= LATEST else None


def _frequency(value: object) -> float | None:
    return _number(value) or None


def _offset(value: object) -> float | None:
    return value if isinstance(value, int | float) and abs(value) <= FURTHEST else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _loads(value: object) -> list[float] | None:
    numbers = [_number(each) for each in value[:LOADS]] if isinstance(value, list | tuple) else [None]
    loads = [each for each in numbers if each is not None]
    return loads if len(loads) == len(numbers) else None


def _arguments(value: object) -> str | None:
    """A text that Flower's index can safely try to read as a Python dictionary."""
    text = _text(value)
    try:
        if text and isinstance(found := ast.literal_eval(text), dict):
            str(found)
    except (ValueError, SyntaxError):  # Plain words, such as those of our stages.
        return text
    except (TypeError, MemoryError, RecursionError):
        return None
    return text


_Reader = Callable[[object], Any]
#: The fields that every event needs.
_NEEDED: dict[str, _Reader] = {"type": _text, "hostname": _text, "timestamp": _time}
_MORE: dict[str, _Reader] = {"utcoffset": _offset, "pid": _count, "clock": _count}
_OF_WORKERS: dict[str, _Reader] = {
    "freq": _frequency,
    "active": _count,
    "processed": _count,
    "loadavg": _loads,
    **dict.fromkeys(("sw_ident", "sw_ver", "sw_sys"), _text),
}
_OF_TASKS: dict[str, _Reader] = {
    "kwargs": _arguments,
    "retries": _count,
    "runtime": _number,
    **dict.fromkeys(("name", "args", "result", "exception", "traceback", "eta", "expires"), _text),
    **dict.fromkeys(("queue", "exchange", "routing_key", "root_id", "parent_id"), _text),
    **dict.fromkeys(("terminated", "expired", "requeue"), _truth),
    "signum": _count,
}
#: The kinds of events, with the other fields that each needs and those that it may have: Celery's kinds, and ours for a
#: stage's progress.
EVENT_KINDS: dict[str, tuple[dict[str, _Reader], dict[str, _Reader]]] = {
    **dict.fromkeys(("worker-online", "worker-heartbeat", "worker-offline"), ({}, _OF_WORKERS)),
    **dict.fromkeys(
        (
            "task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-rejected",
            "task-revoked", "task-retried", "task-progress",
        ),
        ({"uuid": _text}, _OF_TASKS),
    ),
}  # fmt: skip


def cleaned(event: object) -> dict[str, Any] | None:
    """An event with only its fields of the right type; None if Flower does not know such an event."""
    if not isinstance(event, dict):
        return None
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in EVENT_KINDS:
        return None
    needed, more = EVENT_KINDS[kind]
    needed = _NEEDED | needed
    read = {name: reader(event.get(name)) for name, reader in (needed | _MORE | more).items() if name in event}
    found = {name: value for name, value in read.items() if value is not None}
    return found if all(found.get(name) not in (None, "") for name in needed) else None


def cleaned_batch(body: object) -> list[dict[str, Any]]:
    """The events of a message, which holds one or a list of them."""
    events = map(cleaned, body if isinstance(body, list) else [body])
    return [event for event in events if event is not None]
