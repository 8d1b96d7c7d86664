"""Entries: what lies in the broker's lists and is published on its channels, which anybody may have written.

`read_entry` makes a message of the bytes, or an *unreadable* message, which workers refuse, keep and count like one
that is not signed: neither kombu nor Celery ever sees what they cannot take. The tables say what a header may be.
"""

from __future__ import annotations

import base64
import json
import math
import re
import uuid
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from distill_queue.shared.catalog import QUEUES

#: Content type of a message that stands for an entry which cannot be read; `REASON` is the header that says why.
UNREADABLE = "application/x-distill-unreadable"
REASON = "distill_unreadable"
#: Header of a message: since when, in seconds since the epoch, it waits to be taken.
DUE = "distill_due"
#: Key in a signed body: the headers as they were when it was signed.
SIGNED_HEADERS = "distill_headers"
#: The longest entry, and the longest body that one unpacks to, in bytes; 10,000 students make 6 MB and 50 MB.
LONGEST_ENTRY = 16 * 2**20
LONGEST_BODY = 64 * 2**20
#: Levels of nesting; a chain with chords in it has about 20, and Python's limit is near 1,000.
DEEPEST = 100
#: Commas and brackets of an entry, whose body is one text in it.
MOST_PARTS = 100_000
#: Bytes of an unreadable entry that are kept.
KEPT_BYTES = 2_000
#: How kombu calls zlib; other compressions are not unpacked.
COMPRESSIONS = ("application/x-gzip", "gzip", "zlib")
#: Encodings of bodies; of another name, Python would unpack some without an end, as `bz2`.
ENCODINGS = ("utf-8", "binary")

Check = Callable[[object], bool]
Payload = dict[str, Any]


def read_entry(data: bytes, queue: str) -> Payload:
    """Return an entry's message as kombu takes it, or an unreadable one that says why; never raise.

    Args:
        data: the entry, as it lay in a list or was published.
        queue: the queue, or the exchange, from which it came.

    Returns:
        A dict of `body` (text, base64), `content-type`, `content-encoding`, `headers` and `properties`, of the shapes
        that kombu relies on. What is wrong with the headers that only Celery obeys, `check_headers` says.

    """
    try:
        payload = _parsed(data)
        _check_message(payload)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        return unreadable(data, queue, str(error) or type(error).__name__)
    if queue in QUEUES:  # Where it is sent to when it is tried again: where it lay, not where it says.
        payload["properties"]["delivery_info"].update(exchange="", routing_key=queue)
    return payload


def read_taken(entry: bytes) -> tuple[Payload, str]:
    """Return the message that a worker took and did not acknowledge, and its queue; an unreadable one goes to `any`."""
    try:
        payload, exchange, queue = _parsed(entry)
        if exchange != "" or queue not in QUEUES:
            raise ValueError("it comes from no queue of ours")
        _check_message(payload)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        return unreadable(entry, "any", f"taken by a worker: {error}"), "any"
    return payload, queue


def unreadable(data: bytes, queue: str, reason: str) -> Payload:
    """Return the message that stands for an entry which cannot be read, with the beginning of what it was."""
    return {
        "body": base64.b64encode(data[:KEPT_BYTES]).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "utf-8",
        "headers": {REASON: reason[:200].encode(errors="replace").decode()},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
        },
    }


def unpack(data: bytes) -> bytes:
    """Return what zlib packed.

    Raises:
        ValueError: it is cut off, damaged, or unpacks to more than `LONGEST_BODY`.

    """
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(data, LONGEST_BODY)
    except zlib.error as error:
        raise ValueError(f"its body cannot be unpacked: {error}") from error
    if unpacking.unconsumed_tail:
        raise ValueError(f"its body unpacks to more than {LONGEST_BODY / 2**20:.0f} MiB")
    if not unpacking.eof:
        raise ValueError("its body is cut off")
    return body


def check_body(body: object) -> None:
    """Look at the decoded body of a task: no positional arguments, keyword arguments, and what comes after the task.

    Raises:
        ValueError: one of them is not what it may be.

    """
    if not isinstance(body, list) or len(body) != 3:
        raise ValueError("its body is not the three parts of a task")
    arguments, keywords, embedded = body
    if arguments != [] or not isinstance(keywords, dict) or not isinstance(embedded, dict):
        raise ValueError("its body is not an empty list and two objects")
    _check_depth(body)
    _check(embedded, EMBEDDED, "body's")
    _check_keywords(keywords)


def check_headers(headers: Mapping[str, Any]) -> None:
    """Look at the headers of a task that Celery obeys.

    Raises:
        ValueError: one of them is not what it may be.

    """
    for name in ("task", "id"):
        if name not in headers:
            raise ValueError(f"it has no header {name!r}")
    _check(headers, TASK_HEADERS, "header")


def check_command(body: object) -> None:
    """Raise ValueError where a decoded body cannot be a control command."""
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        raise ValueError("it is no control command")
    _check_depth(body)
    _check(body, COMMAND, "part")


def _parsed(data: bytes) -> Any:
    """Return an entry's JSON, which is neither large nor deep."""
    if len(data) > LONGEST_ENTRY:
        raise ValueError(f"it is longer than {LONGEST_ENTRY / 2**20:.0f} MiB")
    brackets = data.count(b"[") + data.count(b"{")
    if brackets + data.count(b",") > MOST_PARTS:
        raise ValueError("it has too many parts")
    try:
        value = json.loads(data.decode())
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if brackets > DEEPEST:
        _check_depth(value)
    if re.search(rb"\\u[dD][89a-fA-F]", data):  # Half a character can be sent to no server and written into no log.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _check_message(payload: object) -> None:
    if not isinstance(payload, dict):
        raise ValueError("it is no message")
    payload["headers"] = payload.get("headers") or {}
    for name, check in MESSAGE.items():
        if not check(payload.setdefault(name, None)):
            raise ValueError(f"{name!r} is not what it may be")
    _check(payload["headers"], HEADERS, "header")
    properties = payload["properties"]
    for name, check in PROPERTIES.items():
        if not check(properties.setdefault(name, None)):
            raise ValueError(f"the property {name!r} is not what it may be")
    if properties.get("body_encoding") == "base64":
        base64.b64decode(payload["body"] or "")


def _check(values: Mapping[str, Any], table: Mapping[str, Check], what: str) -> None:
    """Check the values whose names the table has; others are not obeyed by Celery."""
    for name, check in table.items():
        if name in values and not check(values[name]):
            raise ValueError(f"the {what} {name!r} is not what it may be")


def _check_keywords(keywords: Mapping[str, Any]) -> None:
    for name in ("pipeline", "stages"):
        if name not in keywords:
            raise ValueError(f"it has no argument {name!r}")
    _check(keywords, KEYWORDS, "argument")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                below.extend(part.values())
            elif isinstance(part, list):
                below.extend(part)
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {DEEPEST} deep")


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
    """Whether it is a hard and a soft time limit, in seconds, of which either may be missing."""
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
                _check_keywords(keywords)
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
