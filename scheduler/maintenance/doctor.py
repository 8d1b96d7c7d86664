"""The doctor: examines settings, broker, store and workers, and says how to mend what is wrong."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import redis

from distill_queue.scheduler.maintenance.access import closed_to_others, first_obstacle
from distill_queue.scheduler.maintenance.finding import Finding
from distill_queue.scheduler.maintenance.worker_findings import worker_findings
from distill_queue.shared.broker.advice import refusal
from distill_queue.shared.broker.celery_app import keyring
from distill_queue.shared.broker.client import other_type
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.keys import TYPES, Keys
from distill_queue.shared.errors import BrokerUnavailable, DistillError
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.refusals import Refusals
from distill_queue.shared.ledger.status import duration_in_words
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped, quoted
from distill_queue.shared.store.store import store_of

#: The oldest server that knows every command used here.
OLDEST_SERVER = (6, 2)
#: Seconds by which clocks may differ, and bytes that should be free in the store.
CLOCK_SECONDS = 2.0
FREE_BYTES = 1_000_000_000
#: The most unreadable records that the doctor names.
MOST_RECORDS = 5
#: The page that says how several users share a store.
SHARED_STORE = "docs/how-to/shared-store.md"


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which to mend what is wrong."""
    yield from _store(settings)
    try:
        client: Any = connect(settings)
    except DistillError as error:
        yield Finding("broker", "bad", str(error))
        return
    client.skipped = Skipped(level=logging.DEBUG)  # The findings name them.
    yield Finding("broker", "good", f"{settings.broker_address} answers")
    yield _link(settings)
    yield _signing(settings)
    try:
        yield from _asked("server", lambda: _server(client))
        yield from _asked("memory", lambda: _memory(client))
        yield from _asked("persistence", lambda: _persistence(client))
        yield from _asked("clock", lambda: [_clock(_server_time(client))])
        yield from _asked("workers", lambda: worker_findings(client, settings))
        yield from _asked("refused", lambda: _refusals(client))
        yield from _asked("records", lambda: _records(client))
    except (redis.RedisError, BrokerUnavailable) as error:
        yield Finding("broker", "bad", f"it answers no more: {error}")


def _asked(subject: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of `look`; if the broker refuses one of its commands, a finding about that instead."""
    try:
        yield from look()
    except (redis.RedisError, BrokerUnavailable) as error:
        cause = error.__cause__ or error
        said = refusal(cause)
        if not said:
            raise
        if not isinstance(cause, redis.exceptions.NoPermissionError):
            yield Finding(subject, "bad", f"not known: the broker refuses: {said}")
            return
        command = re.search(r"the '([^']+)' command", str(cause))
        may_not = f"ask {command[1].upper()}" if command else f"look at it ({cause})"
        advice = "give it the rights of a client, as in docs/security.md"
        yield Finding(subject, "warning", f"not known: this user may not {may_not}", advice)


def _store(settings: Settings) -> Iterator[Finding]:
    root, store = settings.folder.absolute(), store_of(settings)
    try:
        if obstacle := first_obstacle(root):
            yield Finding("store", "bad", obstacle, f"have its owner open it to a group of all users: {SHARED_STORE}")
            return
        store.check_writable()
        _rename_and_sync(root)
        keeps_first = store.keeps_first()
        closed = closed_to_others(root)
    except (DistillError, OSError) as error:
        advice = "set DISTILL_STORE to a folder that this user can write"
        if settings.is_remote:
            advice = "look at DISTILL_STORE and the variables of its driver, as in docs/how-to/object-store.md"
        yield Finding("store", "bad", str(error), advice)
        return
    if not keeps_first:
        advice = "use an object store that knows If-None-Match: in this one, the last of two commits of a key wins"
        yield Finding("store", "warning", f"{store} overwrites objects that must be written only once", advice)
    elif settings.is_remote:
        yield Finding("store", "good", f"{store} can be written, each object once; copies are in {root}")
    else:
        yield Finding("store", "good", f"{root} can be written, synced and renamed in")
    if closed:
        yield Finding("store", "warning", closed, f"umask 002, and chmod g+s on the store's folders: {SHARED_STORE}")
    free = shutil.disk_usage(root).free
    room = f"{free / 1e9:,.1f} GB free"
    if free < FREE_BYTES:
        yield Finding("room", "warning", room, "make room, or move the store")
    else:
        yield Finding("room", "good", room)


def _rename_and_sync(root: Path) -> None:
    with draft_folder(root, "doctor-") as folder:
        (folder / "a").mkdir()
        (folder / "a" / "file").write_bytes(b"x")
        (folder / "a").rename(folder / "b")
        if (folder / "b" / "file").read_bytes() != b"x":
            raise OSError(f"{folder}: a renamed folder lost its file")


def _link(settings: Settings) -> Finding:
    if settings.encrypted:
        who = f"signed by {settings.broker_ca}" if settings.broker_ca else "that this system trusts"
        return Finding("link", "good", f"encrypted, with a certificate {who}")
    if settings.broker_is_here:
        return Finding("link", "good", "not encrypted, and does not leave this machine")
    advice = "use rediss:// and DISTILL_BROKER_CA, as in docs/security.md, or a private network"
    return Finding("link", "warning", "not encrypted: the network sees the password and can change messages", advice)


def _signing(settings: Settings) -> Finding:
    if name := keyring(settings).signs_as:
        return Finding("messages", "good", f"signed with the key {name}")
    unsigned = "not signed: workers obey everybody who can write to the broker"
    if settings.broker_is_here:
        return Finding("messages", "good", unsigned)
    return Finding("messages", "warning", unsigned, "give clients and workers the same DISTILL_SIGNING_KEY")


def _server(client: Any) -> Iterator[Finding]:
    about = client.info("server")
    name = "Valkey" if "valkey_version" in about else "Redis"
    text = str(about.get("valkey_version") or _told(about, "redis_version"))
    if client.info("replication").get("role") == "slave":
        yield Finding("server", "bad", f"{name} {text}, a replica", "set DISTILL_BROKER_URL to its primary")
    elif tuple(int(part) for part in text.split(".")[:2]) < OLDEST_SERVER:
        yield Finding("server", "bad", f"{name} {text}", "use Redis 6.2 or later, or Valkey")
    else:
        yield Finding("server", "good", f"{name} {text}")


def _told(about: dict[str, Any], name: str) -> Any:
    """A value of the server's INFO; raises if the server does not tell it, as hosted brokers may."""
    if name not in about:
        raise redis.ResponseError(f"its INFO tells no {name}")
    return about[name]


def _memory(client: Any) -> Iterator[Finding]:
    about = client.info("memory")
    policy, most = _told(about, "maxmemory_policy"), about.get("maxmemory", 0)
    if policy != "noeviction":
        advice = "CONFIG SET maxmemory-policy noeviction: else the server may drop messages and leases"
        yield Finding("memory", "bad", f"maxmemory-policy is {policy}", advice)
    elif most and about.get("used_memory", 0) >= most:
        advice = "give it more (maxmemory), or lower DISTILL_HISTORY_DAYS"
        yield Finding("memory", "bad", f"all of its {most / 1e6:,.1f} MB are full", advice)
    else:
        yield Finding("memory", "good", "nothing is evicted")


def _persistence(client: Any) -> Iterator[Finding]:
    if _told(client.info("persistence"), "aof_enabled"):
        yield Finding("persistence", "good", "append-only file is on")
    else:
        advice = "start it with --appendonly yes; after a loss, 'distill recover' sends unfinished pipelines again"
        yield Finding("persistence", "warning", "append-only file is off: a restart forgets the queue", advice)


def _server_time(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def _clock(their_time: float) -> Finding:
    difference = abs(time.time() - their_time)
    if difference > CLOCK_SECONDS:
        return Finding("clock", "warning", f"the broker's differs by {difference:,.1f} s", "run NTP on both machines")
    return Finding("clock", "good", "the broker's agrees with this machine's")


def _records(client: Any) -> Iterator[Finding]:
    """Records that were passed over by all findings above, and keys of another type than this project writes."""
    Queues(client).waiting()
    for name, kind in _types(client, client.names):
        if kind != (client.names.type_of(name) or kind):
            client.skipped.note(name, other_type(quoted(name)))
    found = list(dict.fromkeys(client.skipped.reasons.values()))
    if not found:
        yield Finding("records", "good", "all records that were looked at can be read")
        return
    more = f" (and {len(found) - MOST_RECORDS:,} more)" if len(found) > MOST_RECORDS else ""
    detail = f"not readable, and passed over: {'; '.join(found[:MOST_RECORDS])}{more}"
    advice = "use the newest version on all machines; DEL records that no version wrote"
    yield Finding("records", "warning", detail, advice)


def _types(client: Any, names: Keys) -> Iterator[tuple[str, str]]:
    """All keys of this project with their types, by SCAN: a client may not ask for the type of each key."""
    for kind in sorted(set(TYPES.values())):
        for pattern in (f"{names.own}*", f"{names.unacknowledged}*"):
            yield from ((name, kind) for name in client.scan_iter(pattern, count=1000, _type=kind))


def _refusals(client: Any) -> Iterator[Finding]:
    refusals = Refusals(client)
    if last := refusals.last:
        ago = duration_in_words(max(0.0, time.time() - last.time))
        found = f"{refusals.count:,} refused, the last {ago} ago by {last.worker}: {last.reason}"
        name = client.names.refused
        yield Finding("refused", "warning", found, f"see who sent it: LINDEX {name} 0; DEL {name} forgets all")
