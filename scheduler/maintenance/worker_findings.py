"""Findings about workers: which are there, whether they fit this client, and whether each queue is served."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

from distill_queue.scheduler.maintenance.finding import Finding
from distill_queue.shared.broker.celery_app import keyring
from distill_queue.shared.catalog import QUEUES
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import UnreadablePipeline
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry, installed_versions
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.settings import Settings
from distill_queue.shared.skipped import Skipped
from distill_queue.shared.text import plain_line


def worker_findings(client: Any, settings: Settings) -> Iterator[Finding]:
    """Each worker, and each queue that no worker serves though pipelines may wait for it."""
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
