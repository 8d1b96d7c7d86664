"""A crew: the workers that label together, and when it pays to call for more of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

#: Seconds from a call for help until a helper labels: its message, torch (where it is not loaded yet), the teacher.
START_SECONDS = 4.0
#: Bytes a second that a helper reads from the store: those of a network share of one gigabit.
READ_BYTES_PER_SECOND = 100e6
#: Seconds of labelling after which its speed is known well enough to decide, and until it is decided anew: workers
#: come and go.
TRIAL_SECONDS = 1.0
AGAIN_SECONDS = 30.0


class Crew(Protocol):
    """The workers that label the blocks of one stage."""

    @property
    def present(self) -> int:
        """Other workers that could help."""

    def call(self, helpers: int, seconds: float, /) -> bool:
        """Call helpers for work of so many seconds; return whether the call could be sent."""

    def blocks(self, total: int) -> Iterator[int]:
        """Yield the numbers of the blocks that this worker is to label."""


class Alone:
    """A crew of one."""

    present = 0

    def call(self, *_: float) -> bool:
        """Call in vain."""
        return False

    def blocks(self, total: int) -> Iterator[int]:
        """Yield the numbers of all blocks."""
        return iter(range(total))


def worthwhile_helpers(seconds: float, present: int, read_bytes: int) -> int:
    """How many helpers to have for work that takes one worker so many seconds.

    A helper labels from S seconds after the call on, so that n of them end the work after S + (W - S) / (n + 1) instead
    of W seconds. So many are called that each labels for at least as long as it takes it to start, W / (n + 1) >= S:
    then it is never slower with them, and half of what they spend is labelling at the least.

    Args:
        seconds: W, what is left to do.
        present: other workers that could help.
        read_bytes: of the teacher and the samples, which each helper reads.

    """
    start_seconds = START_SECONDS + read_bytes / READ_BYTES_PER_SECOND
    return max(0, min(present, int(seconds / start_seconds) - 1))
