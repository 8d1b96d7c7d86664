"""A machine without torch can submit."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "modules",
    ["scheduler.cli", "scheduler.client, scheduler.local, scheduler.report", "worker.app", "shared.soft_labels"],
)
def test_these_modules_load_no_torch(modules: str) -> None:
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
