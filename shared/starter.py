"""Starter: a worker tells the process that started it that it works, or why it cannot."""

from __future__ import annotations

import os
from contextlib import suppress

#: Names the pipe that leads to the starter; of processes that nobody waits for it is not set.
PIPE = "DISTILL_STARTER_PIPE"
#: What a worker says as soon as it takes tasks.
READY = "ready"
#: The exit codes of a process whose settings or arguments are wrong, and of one around which something does not work.
WRONG_INPUT, BROKEN_WORLD = 2, 3


def hang_up() -> None:
    """Tell no more, nor have what this process starts know of the pipe."""
    with suppress(OSError, ValueError, KeyError):
        os.close(int(os.environ.pop(PIPE)))


def tell(text: str) -> None:
    """Tell the starter something, if there is one that listens."""
    with suppress(OSError, ValueError, KeyError):
        os.write(int(os.environ[PIPE]), f"{text}\n".encode())
