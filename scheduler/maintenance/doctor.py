"""The doctor: examines settings, broker, store and workers, and says how to mend what is wrong."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import redis

from distill_queue.scheduler.maintenance.access import closed_to_others, first_obstacle
from distill_queue.shared.broker.advice import refusal
from distill_queue.shared.broker.celery_app import keyring
from distill_queue.shared.broker.client import other_type
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.keys import TYPES, Keys
from distill_queue.shared.catalog import QUEUES
from distill_queue.shared.errors import BrokerUnavailable, DistillError
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.queues import Queues
from distill_queue.shared.ledger.refusals import Refusals
from distill_queue.shared.ledger.status import UnreadablePipeline, duration_in_words
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry, installed_versions
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped, quoted
from distill_queue.shared.store.store import store_of
from distill_queue.shared.text import plain_line

#: The oldest server that knows every command used here.
OLDEST_SERVER = (6, 2)
#: Seconds by which clocks may differ, and bytes that should be free in the store.
CLOCK_SECONDS = 2.0
FREE_BYTES = 1_000_000_000
#: The most unreadable records that the doctor names.
MOST_RECORDS = 5
#: The page that says how several users share a store.
SHARED_STORE = "docs/how-to/shared-store.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, what was found, and what to do."""

    subject: str
    state: Literal["good", "warning", "bad"]
    detail: str
    advice: str = ""


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
        yield from _asked("workers", lambda: _workers(client, settings))
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


def _workers(client: Any, settings: Settings) -> Iterator[Finding]:
    workers = WorkerRegistry(client).workers()
    waiting = _pipelines_by_queue(Ledger(client, settings.history_seconds), client.skipped)
    if unreadable := client.skipped.reasons.get(client.names.workers):
        yield Finding("workers", "bad", f"not known: {unreadable}")
    elif not workers:
        advice = "start some with 'distill up' or 'distill worker'"
        yield Finding("workers", "warning", "no worker is there: submitted pipelines wait", advice)
    served = {queue for worker in workers for queue in worker.queues}
    for worker in workers:
        yield _worker(worker, settings)
    for queue in QUEUES:
        if queue in served or not (waiting[queue] or (workers and queue != "gpu")):
            continue
        who = f" (pipelines that wait for it: {waiting[queue]:,})" if waiting[queue] else ""
        advice = f"start a worker with 'distill worker --queues {queue}'"
        yield Finding("queues", "warning", f"no worker serves the queue '{queue}'{who}", advice)


def _pipelines_by_queue(ledger: Ledger, skipped: Skipped) -> Counter[str]:
    """How many unfinished pipelines each queue has; messages of cancelled ones may lie there, and do not count."""
    waiting = Counter[str]()
    unfinished: list[str] = []
    with skipped.unreadable("unfinished"):
        unfinished = ledger.untouched_since(inf)
    for status in ledger.standings(unfinished):
        if isinstance(status, UnreadablePipeline):
            skipped.note(status.id, status.why)
        else:
            waiting[status.plan.device] += not status.finished
    return waiting


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


def _worker(worker: WorkerEntry, settings: Settings) -> Finding:
    here = installed_versions()
    differences = [
        f"{package} {theirs} (here {here[package]})"
        for package, theirs in worker.versions.items()
        if package in here and here[package] != theirs
    ]
    if worker.stage_format != STAGE_FORMAT:
        differences.append(f"stage format {worker.stage_format} (here {STAGE_FORMAT})")
    if worker.trouble:
        return Finding(worker.name, "bad", f"on {worker.host}: {worker.trouble}")
    serves = f"serves {', '.join(worker.queues)} on {worker.host}"
    if not worker.obeys(keyring(settings).signs_as):
        advice = "give this client and the worker the same DISTILL_SIGNING_KEY"
        has = f"the keys {', '.join(worker.keys)}" if worker.keys else "no key"
        return Finding(worker.name, "bad", f"{serves}, but refuses what this client sends: it has {has}", advice)
    if _has_another_store(worker, settings):
        advice = "give this client and the worker the same DISTILL_STORE, unless both are one folder"
        return Finding(worker.name, "warning", f"{serves}, but its store is {worker.store}", advice)
    if differences:
        advice = "install the same versions on client and workers"
        return Finding(worker.name, "warning", f"{serves}, but has {', '.join(differences)}", advice)
    return Finding(worker.name, "good", serves)


def _has_another_store(worker: WorkerEntry, settings: Settings) -> bool:
    """Whether a worker seems to have another store; on another host, another path may be the same folder."""
    if settings.is_remote or "://" in worker.store:
        return worker.store != settings.store
    theirs = Path(worker.store)
    here = worker.host == plain_line(socket.gethostname()) and theirs.is_absolute()
    return here and str(theirs.resolve()) != plain_line(str(settings.folder.resolve()))
