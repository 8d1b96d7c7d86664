"""Fields: what kombu and Celery rely on in a message, and what each may be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

#: Header of a message: since when, in seconds since the epoch, it waits to be taken.
DUE = "distill_due"
#: Key in a signed body: the headers as they were when it was signed.
SIGNED_HEADERS = "distill_headers"
#: How kombu calls zlib; other compressions are not unpacked.
COMPRESSIONS = ("application/x-gzip", "gzip", "zlib")
#: Encodings of bodies; of another name, Python would unpack some without an end, as `bz2`.
ENCODINGS = ("utf-8", "binary")

Check = Callable[[object], bool]


def check_fields(values: Mapping[str, Any], table: Mapping[str, Check], what: str) -> None:
    """Check the values whose names the table has; Celery obeys no others.

    Raises:
        ValueError: a value is not allowed; the message begins with `what`, such as "header".

    """
    for name, check in table.items():
        if name in values and not check(values[name]):
            raise ValueError(f"the {what} {name!r} has a value that is not allowed")


def check_keywords(keywords: Mapping[str, Any]) -> None:
    """Check the keyword arguments of a task.

    Raises:
        ValueError: one is missing, or not what it may be.

    """
    for name in ("pipeline", "stages"):
        if name not in keywords:
            raise ValueError(f"it has no argument {name!r}")
    check_fields(keywords, KEYWORDS, "argument")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[!-~]{1,255}", value) is not None


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_priority(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= 255


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63 and math.isfinite(value)


def _is_number_or_text(value: object) -> bool:
    return _is_number(value) or _is_text(value)


def _is_time(value: object) -> bool:
    """Whether it is a time as Celery writes it, of a year that every zone's clocks can tell."""
    try:
        return isinstance(value, str) and 2000 <= datetime.fromisoformat(value).year < 2200
    except ValueError:
        return False


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_place(value: object) -> bool:
    """Whether it is an exchange and a routing key."""
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("exchange", "routing_key"))


def _is_seconds(value: object) -> bool:
    return _is_number(value) and 0 <= value < 2**31  # type: ignore[operator]


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_limits(value: object) -> bool:
    """Whether a value is a hard and a soft time limit in seconds; either may be missing."""
    return isinstance(value, list) and len(value) == 2 and all(part is None or _is_seconds(part) for part in value)


def _is_stage(value: object) -> bool:
    """Whether it has what workers of all versions look at in a stage before they read it."""
    return isinstance(value, dict) and _is_line(value.get("key")) and _is_count(value.get("format", 0))


def _is_signature(value: object) -> bool:
    """Whether it is a task of ours as Celery sends it, or several one after or beside the other."""
    if not isinstance(value, dict) or not _is_id(value.get("task")) or value.get("args") != []:
        return False
    keywords, options = value.get("kwargs"), value.get("options")
    if not isinstance(keywords, dict) or not isinstance(options, dict):
        return False
    match value.get("subtask_type"):
        case None:
            try:
                check_keywords(keywords)
            except ValueError:
                return False
            return value.get("immutable") is True
        case "chain" | "group":
            return _list_of(_is_signature)(keywords.get("tasks"))
        case "chord":
            return _is_signature(keywords.get("header")) and _is_signature(keywords.get("body"))
        case _:
            return False


#: What kombu relies on in a message, in its properties and in any headers.
MESSAGE: Mapping[str, Check] = {
    "body": _maybe(_is_text),
    "content-type": _maybe(_is_line),
    "content-encoding": lambda value: value in (None, *ENCODINGS),
    "headers": _is_object,
    "properties": _is_object,
}
PROPERTIES: Mapping[str, Check] = {
    "delivery_tag": _is_id,
    "delivery_info": _is_place,
    "body_encoding": lambda value: value in (None, "base64", "utf-8"),
    "priority": _maybe(_is_priority),
    "correlation_id": _maybe(_is_text),
    "reply_to": _maybe(_is_text),
}
HEADERS: Mapping[str, Check] = {
    "compression": lambda value: value is None or value in COMPRESSIONS,
    "clock": _maybe(_is_count),
    "ticket": _maybe(_is_line),
    "hostname": _maybe(_is_line),
    "expires": _maybe(_is_number_or_text),
}
#: What Celery obeys in a task's headers, in what its body says of the tasks after it, and in a control command.
TASK_HEADERS: Mapping[str, Check] = {
    "lang": _maybe(_is_line),
    "task": _is_id,
    "id": _is_id,
    "root_id": _maybe(_is_id),
    "parent_id": _maybe(_is_id),
    "group": _maybe(_is_id),
    "group_index": _maybe(_is_count),
    "shadow": _maybe(_is_line),
    "meth": _maybe(_is_line),
    "origin": _maybe(_is_line),
    "argsrepr": _is_text,
    "kwargsrepr": _is_text,
    "eta": _maybe(_is_time),
    "expires": _maybe(_is_time),
    "timelimit": _maybe(_is_limits),
    "retries": _is_count,
    "replaced_task_nesting": _is_count,
    "ignore_result": _maybe(_is_flag),
    "stamped_headers": _maybe(_list_of(_is_line)),
    "stamps": _maybe(_is_object),
    DUE: _is_number,
}
EMBEDDED: Mapping[str, Check] = {
    "callbacks": _maybe(_list_of(_is_signature)),
    "errbacks": _maybe(_list_of(_is_signature)),
    "chain": _maybe(_list_of(_is_signature)),
    "chord": _maybe(_is_signature),
    SIGNED_HEADERS: _is_object,
}
KEYWORDS: Mapping[str, Check] = {
    "pipeline": _is_line,
    "stages": _list_of(_is_stage),
    "trouble_since": _is_number,
    "self": lambda _value: False,  # Celery's own argument.
}
COMMAND: Mapping[str, Check] = {
    "arguments": _maybe(_is_object),
    "destination": _maybe(_list_of(_is_line)),
    "pattern": _maybe(_is_text),
    "matcher": lambda value: value in (None, "glob", "pcre"),
    "ticket": _maybe(_is_line),
    "reply_to": _maybe(_is_place),
}
