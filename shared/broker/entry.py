"""Entries: what lies in the broker's lists and is published on its channels, which anybody may have written.

`read_entry` makes a message of the bytes, or an *unreadable* message, which workers refuse, keep and count like one
that is not signed: neither kombu nor Celery ever sees what they cannot take. `shared.broker.fields` says what
each part may be.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Mapping
from typing import Any

from distill_queue.shared.broker.fields import (
    COMMAND,
    EMBEDDED,
    HEADERS,
    MESSAGE,
    PROPERTIES,
    TASK_HEADERS,
    check_fields,
    check_keywords,
)
from distill_queue.shared.catalog import QUEUES

#: Content type of a message that stands for an entry which cannot be read; `REASON` is the header that says why.
UNREADABLE = "application/x-distill-unreadable"
REASON = "distill_unreadable"
#: The longest entry, and the longest body that one unpacks to, in bytes; 10,000 students make 6 MB and 50 MB.
LONGEST_ENTRY = 16 * 2**20
LONGEST_BODY = 64 * 2**20
#: Levels of nesting; a chain with chords in it has about 20, and Python's limit is near 1,000.
DEEPEST = 100
#: Commas and brackets of an entry, whose body is one text in it.
MOST_PARTS = 100_000
#: Bytes of an unreadable entry that are kept.
KEPT_BYTES = 2_000

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
    check_fields(embedded, EMBEDDED, "body's")
    check_keywords(keywords)


def check_headers(headers: Mapping[str, Any]) -> None:
    """Look at the headers of a task that Celery obeys.

    Raises:
        ValueError: one of them is not what it may be.

    """
    for name in ("task", "id"):
        if name not in headers:
            raise ValueError(f"it has no header {name!r}")
    check_fields(headers, TASK_HEADERS, "header")


def check_command(body: object) -> None:
    """Raise ValueError where a decoded body cannot be a control command."""
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        raise ValueError("it is no control command")
    _check_depth(body)
    check_fields(body, COMMAND, "part")


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
            raise ValueError(f"{name!r} has a value that is not allowed")
    check_fields(payload["headers"], HEADERS, "header")
    properties = payload["properties"]
    for name, check in PROPERTIES.items():
        if not check(properties.setdefault(name, None)):
            raise ValueError(f"the property {name!r} has a value that is not allowed")
    if properties.get("body_encoding") == "base64":
        base64.b64decode(payload["body"] or "")


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
