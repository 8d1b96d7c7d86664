"""Starter: a worker tells the process that started it that it works, or why it cannot."""

from __future__ import annotations

import os
from contextlib import suppress

from distill_queue.shared.text import plain_text

#: The variable with the descriptor of the pipe to the starter; not set in processes without a waiting starter.
PIPE = "DISTILL_STARTER_PIPE"
#: The variable that has a worker's child load torch as it starts, not at its first stage that computes.
LOAD_AHEAD = "DISTILL_LOAD_AHEAD"
#: What a worker says as soon as it takes tasks.
READY = "ready"
#: The most characters of a text: a pipe that is not read holds 64 kB, and writing more would block.
LONGEST = 10_000


def hang_up() -> None:
    """Close the pipe, also for the processes that this one starts."""
    with suppress(OSError, ValueError, KeyError):
        os.close(int(os.environ.pop(PIPE)))


def tell(text: str) -> None:
    """Send the starter a text, if it still listens."""
    with suppress(OSError, ValueError, KeyError):
        os.write(int(os.environ[PIPE]), f"{plain_text(text, LONGEST)}\n".encode())
