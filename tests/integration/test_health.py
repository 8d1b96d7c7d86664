"""The health check of a worker's container, on a real server."""

from __future__ import annotations

import subprocess
import sys

from shared.ledger import connect
from shared.roster import Roster, WorkerEntry
from shared.settings import Settings
from tests.acceptance.conftest import free_port


def health(settings: Settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, env=settings.environment, capture_output=True, text=True, check=False)


def test_a_worker_on_the_roster_is_healthy(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@here", ("cpu",), str(settings.folder))
    Roster(connect(settings)).enter(entry, seconds=60.0)

    assert health(settings).returncode == 0


def test_a_worker_of_another_machine_is_none_of_this_one(settings: Settings) -> None:
    entry = WorkerEntry.of_this_process("celery@there", ("cpu",), str(settings.folder))
    Roster(connect(settings)).enter(entry.model_copy(update={"host": "elsewhere"}), seconds=60.0)

    found = health(settings)

    assert found.returncode == 1
    assert "is on the roster" in found.stderr


def test_without_a_broker_it_says_so_in_a_line(settings: Settings) -> None:
    found = health(settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"}))

    assert found.returncode == 1
    assert found.stderr.startswith("error: no broker at redis://127.0.0.1:")
    assert found.stderr.count("\n") == 1
