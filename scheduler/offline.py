"""Offline: asks the worker's code, which answers in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Any

from distill_queue.shared.errors import ERROR_KINDS, DistillError, InvalidInput
from distill_queue.shared.settings import Settings


def ask(
    request: dict[str, Any], settings: Settings | None = None, advance: Callable[[str], object] = lambda _: None
) -> Any:
    """Have the worker's code answer a request, in a process of its own: this one knows no torch.

    Args:
        request: what `worker.offline` knows.
        settings: those of that process, where they are not this one's.
        advance: called with how far it is, in words.

    Raises:
        InvalidInput: the request cannot be met, or the worker's packages are not installed here.
        ArtifactMissing: an artifact that it needs is not in the store.
        StoreUnavailable: the store, or the folder to write to, does not work for now.
        DistillError: the worker's code failed.

    """
    command = [sys.executable, "-P", "-m", "distill_queue.worker.offline"]
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as asked, TemporaryFile() as errors:
        json.dump(request, asked)
        asked.seek(0)
        with subprocess.Popen(
            command,
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=None if settings is None else os.environ | settings.environment,
            encoding="utf-8",
            errors="replace",
        ) as process:
            answer = _answer(process, advance)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if answer is None:
        raise _silence(process.returncode, said)
    if "error" in answer:
        raise ERROR_KINDS.get(answer["kind"], DistillError)(answer["error"])
    return answer["result"]


def _answer(process: subprocess.Popen[str], advance: Callable[[str], object]) -> dict[str, Any] | None:
    """The answer on the last line of a process's output; the lines before may say how far it is."""
    answer = None
    for line in process.stdout or ():
        answer = _object(line)
        if answer is not None and "progress" in answer:
            advance(answer.pop("progress"))
    return answer or None


def _object(line: str) -> dict[str, Any] | None:
    """What a line says in JSON; None where the user's own code has printed it."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _silence(code: int, said: str) -> DistillError:
    """The error of a process that ended without an answer."""
    if "No module named" in said:
        return InvalidInput("the worker's packages are not installed here: pip install '.[worker]'")
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    silent = f"the process that looks at it ended without a word ({ended}): does code that it calls end it?"
    return DistillError(said.splitlines()[-1] if said else silent)
