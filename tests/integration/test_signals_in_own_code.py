"""Signals that reach a worker's process while code of the user's own runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("after", ["raise", "sys.exit(1)"])
def test_a_signal_that_ends_the_process_in_the_users_code_is_no_mistake_of_it(tmp_path: Path, after: str) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, signal, sys\ndef own():\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        f"        signal.pause()\n    except SystemExit:\n        {after}\n"
    )
    script = "from billiard.common import reset_signals; from distill_queue.worker.machine import plugins\n"
    script += "import mine; reset_signals()\n"
    script += "try:\n    with plugins.called('mine:own', by_line=True): mine.own()\nexcept SystemExit: print('ended')"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)

    assert done.stdout == "ended\n", done.stderr
