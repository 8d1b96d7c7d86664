"""Offline: asks the worker's code, which answers in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from distill_queue.shared.errors import ERROR_KINDS, DistillError, InvalidInput
from distill_queue.shared.settings import Settings


def ask(request: dict[str, Any], settings: Settings | None = None) -> Any:
    """Have the worker's code answer a request, in a process of its own: this one knows no torch.

    Args:
        request: what `worker.offline` knows.
        settings: those of that process, where they are not this one's.

    Raises:
        InvalidInput: the request cannot be met, or the worker's packages are not installed here.
        ArtifactMissing: an artifact that it needs is not in the store.
        StoreUnavailable: the store, or the folder to write to, does not work for now.
        DistillError: the worker's code failed.

    """
    command = [sys.executable, "-P", "-m", "distill_queue.worker.offline"]
    done = subprocess.run(
        command,
        input=json.dumps(request),
        env=None if settings is None else os.environ | settings.environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if "No module named" in done.stderr:
            raise InvalidInput("the worker's packages are not installed here: pip install '.[worker]'") from None
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        silent = f"the process that looks at it ended without a word ({ended}): does code that it calls end it?"
        raise DistillError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else silent) from None
    if "error" in answer:
        raise ERROR_KINDS.get(answer["kind"], DistillError)(answer["error"])
    return answer["result"]
