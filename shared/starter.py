"""Starter: a worker tells the process that started it that it works, or why it cannot."""

from __future__ import annotations

import os
from contextlib import suppress

from distill_queue.shared.text import plain_text

#: Names the pipe that leads to the starter; of processes that nobody waits for it is not set.
PIPE = "DISTILL_STARTER_PIPE"
#: What a worker says as soon as it takes tasks.
READY = "ready"
#: Characters that are told, at the most: a pipe that nobody reads holds 64 kB, and who writes more into it would wait.
LONGEST = 10_000


def hang_up() -> None:
    """Tell no more, nor have what this process starts know of the pipe."""
    with suppress(OSError, ValueError, KeyError):
        os.close(int(os.environ.pop(PIPE)))


def tell(text: str) -> None:
    """Tell the starter something, if there is one that listens."""
    with suppress(OSError, ValueError, KeyError):
        os.write(int(os.environ[PIPE]), f"{plain_text(text, LONGEST)}\n".encode())
