"""Workers on a machine whose file system is read-only, as in a container that is started with `--read-only`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import DISTILL

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
WORKER = f"{sys.executable} -P -m distill_queue.worker worker -Q cpu -n here@%h"
PROVIDE = (
    "from distill_queue.shared.files.temporary import provide_folder; provide_folder(); "
    "import tempfile; print(tempfile.mkdtemp())"
)


def on_read_only(command: str, folder: Path, *, shared_memory: bool) -> subprocess.CompletedProcess[str]:
    """Run a shell's command where only a folder, and perhaps shared memory, can be written."""
    mounts = [f"mount -t tmpfs none {folder}", "mount -o remount,ro,bind /"]
    mounts += [] if shared_memory else ["mount -t tmpfs -o ro none /dev/shm"]
    script = " && ".join([*mounts, command])
    environment = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "TEMP", "TMP")}
    environment |= {"DISTILL_STORE": str(folder / "store"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env=environment, capture_output=True, text=True, check=False
    )


def test_temporary_files_go_into_shared_memory_where_no_folder_can_be_written(tmp_path: Path) -> None:
    done = on_read_only(f'{sys.executable} -c "{PROVIDE}" | xargs rmdir -v', tmp_path, shared_memory=True)

    assert "removing directory, '/dev/shm/tmp" in done.stdout, done.stderr


def test_a_worker_without_any_folder_for_temporary_files_says_what_to_do(tmp_path: Path) -> None:
    done = on_read_only(WORKER, tmp_path, shared_memory=False)

    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: no folder for temporary files can be written, not even /dev/shm: mount one, as "
        "'docker run --tmpfs /tmp' does, or name one in TMPDIR"
    ]


def test_a_worker_whose_processes_cannot_share_locks_says_what_to_do(tmp_path: Path) -> None:
    done = on_read_only(f"TMPDIR={tmp_path} {WORKER}", tmp_path, shared_memory=False)

    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: processes cannot share locks here (Read-only file system): /dev/shm is to be writable, as with "
        "'docker run --tmpfs /dev/shm'"
    )


def test_a_worker_does_a_whole_pipeline_there(tmp_path: Path, write_spec: Callable[..., Path]) -> None:
    spec = write_spec()
    (folder := tmp_path / "writable").mkdir()

    command = f"{DISTILL[0]} run {spec} && ! touch {tmp_path}/file && ls {folder}/store/artifacts/report"
    done = on_read_only(command, folder, shared_memory=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Read-only file system" in done.stderr
