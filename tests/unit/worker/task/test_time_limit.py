"""A time limit that passes in an import is raised after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Says when a limit passes where it is run.
PASS = "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)"
MAIN = """
import time
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from distill_queue.worker.task.time_limit import wait_for_imports

def execute(code): exec(code)

task = Celery().task(execute)
wait_for_imports()
deadline = time.monotonic() + 60
try:
    {body}
    while time.monotonic() < deadline: time.sleep(0.01)
except SoftTimeLimitExceeded:
    print("raised")
{after}
"""


def _run(folder: Path, body: str, after: str = "") -> str:
    script = MAIN.format(body=body, after=after)
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    (tmp_path / "half.py").write_text(f"{PASS}\nwhole = True\nprint('loaded')\n")
    return tmp_path


def test_it_is_raised_at_once_elsewhere(tmp_path: Path) -> None:
    assert _run(tmp_path, f"{PASS}; print('went on')") == "raised\n"


def test_an_import_ends_first(imported: Path) -> None:
    assert _run(imported, "import half", "print(half.whole)") == "loaded\nraised\nTrue\n"


def test_it_is_not_lost_in_an_object_s_end(tmp_path: Path) -> None:
    ends = f"def __del__(self):\n    {PASS}\n    print('ended')\n"
    body = f"exec({ends!r}); type('Ends', (), dict(__del__=__del__))()"

    assert _run(tmp_path, body) == "ended\nraised\n"


def test_the_next_task_is_spared(imported: Path) -> None:
    # The limit passes in an import at the end of one task; when it is looked at again, another one runs.
    body = "task.apply(['import half'], task_id='first'); "
    body += "task.apply(['time.sleep(0.5)'], task_id='next', throw=True); print('spared'); deadline = 0"

    assert _run(imported, body) == "loaded\nspared\n"
