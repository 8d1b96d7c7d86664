"""The command that workers and Flower are started with: what it imports, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from distill_queue.scheduler.stack.child import celery_command
from distill_queue.shared.exit_code import ExitCode


def test_files_in_the_working_folder_are_not_taken_for_libraries(tmp_path: Path) -> None:
    for name in ("celery", "flower", "redis", "worker", "shared"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not what was meant')")

    done = subprocess.run(celery_command("flower", "--help"), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "monitoring and administrating Celery" in done.stdout


def test_a_worker_whose_libraries_cannot_be_loaded_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('libfoo.so.1: cannot open shared object file')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    done = subprocess.run(
        celery_command("worker"), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: a library of the worker cannot be loaded: libfoo.so.1: cannot open shared object file: "
        "install 'distill-queue[worker]' again"
    ]


def test_a_worker_whose_options_are_wrong_ends_with_the_exit_code_of_wrong_input() -> None:
    done = subprocess.run(celery_command("worker", "--nonsense"), capture_output=True, text=True, check=False)

    assert done.returncode == ExitCode.WRONG_INPUT
    assert re.search(r"No such option:? '?--nonsense", done.stderr)  # As click says it, before 8.4 and since.
    assert "Traceback" not in done.stderr
