"""The health check of a worker's container, on a real server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.settings import Settings
from tests.acceptance.conftest import free_port


def health(settings: Settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_queue.worker.health"]
    return subprocess.run(command, env=settings.environment, capture_output=True, text=True, check=False)


def test_a_worker_on_the_roster_is_healthy(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@here", ("cpu",), str(settings.folder))
    WorkerRegistry(connect(settings)).enter(entry, 60.0, "a")

    assert health(settings).returncode == 0


def test_a_worker_of_another_machine_is_none_of_this_one(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@there", ("cpu",), str(settings.folder))
    WorkerRegistry(connect(settings)).enter(entry.model_copy(update={"host": "elsewhere"}), 60.0, "a")

    found = health(settings)

    assert found.returncode == 1
    assert "is on the roster" in found.stderr


def test_without_a_broker_it_says_so_in_a_line(settings: Settings) -> None:
    found = health(settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"}))

    assert found.returncode == 1
    assert found.stderr.startswith("error: no broker at redis://127.0.0.1:")
    assert found.stderr.count("\n") == 1


def test_of_two_workers_of_one_name_each_hears_where_the_other_is(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@same", ("cpu",), str(settings.folder))
    there = entry.model_copy(update={"host": "there", "pid": 7})
    first, second = WorkerRegistry(connect(settings)), WorkerRegistry(connect(settings))

    heard = [first.enter(entry, 60.0, "a") for _ in range(2)]
    heard += [second.enter(there, 60.0, "b"), first.enter(entry, 60.0, "a"), second.enter(there, 60.0, "b")]
    after_its_end = [second.enter(there, 60.0, "b") for _ in range(2)]

    assert heard == ["", "", "", "there (process 7)", f"{entry.host} (process {entry.pid})"]
    assert after_its_end == ["", ""]


def test_a_worker_that_is_started_again_has_no_namesake(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@same", ("cpu",), str(settings.folder))
    WorkerRegistry(connect(settings)).enter(entry, 60.0, "killed")

    again = WorkerRegistry(connect(settings))

    assert [again.enter(entry, 60.0, "started again") for _ in range(3)] == ["", "", ""]


def test_what_is_wrong_with_a_worker_stands_in_its_entry_only_then(settings: Settings) -> None:
    client = connect(settings)
    well = WorkerEntry.of_this_process("celery@here", ("cpu",), str(settings.folder))

    WorkerRegistry(client).enter(well, 60.0, "a")
    of_a_well_one = str(client.get("distill:worker:celery@here"))
    WorkerRegistry(client).enter(well.model_copy(update={"trouble": "stuck"}), 60.0, "a")

    assert "trouble" not in of_a_well_one, "clients of an older version refuse what they do not know"
    assert [worker.trouble for worker in WorkerRegistry(client).workers()] == ["stuck"]


def test_an_entry_that_another_version_wrote_hides_no_other(settings: Settings) -> None:
    client: Any = connect(settings)
    registry = WorkerRegistry(client)
    for name in ("newer@there", "one@here"):
        registry.enter(WorkerEntry.of_this_process(name, ("any",), "store"), 60.0, "a")
    client.set("distill:worker:newer@there", '{"name": "newer@there", "what_is_new": 1}')

    assert [entry.name for entry in registry.workers()] == ["one@here"]
