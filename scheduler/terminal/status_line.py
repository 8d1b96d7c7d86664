"""A status line: what a command is at, on the standard error, once it takes long; it goes when that is done."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.text import Text

from distill_queue.scheduler.terminal.output import Terminal

if TYPE_CHECKING:
    from rich.status import Status

#: Seconds in which nothing is shown, and between two changes of the line.
PATIENCE_SECONDS = 1.0
CHANGE_SECONDS = 0.1


class StatusLine:
    """A line that changes in a terminal; elsewhere it is printed once."""

    def __init__(self, what: str) -> None:
        """Show nothing yet.

        Args:
            what: the command is at, in a word or a few.

        """
        self._what, self._next = what, time.monotonic() + PATIENCE_SECONDS
        self._terminal = Terminal(stderr=True, soft_wrap=True)
        self._status: Status | None = None
        self._printed = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        if self._status:
            self._status.stop()

    def show(self, words: str) -> None:
        """Say how far it is."""
        if self._printed or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + CHANGE_SECONDS
        line = Text(f"{self._what}: {words}")  # Not a string, which rich would read as markup here.
        if self._status:
            self._status.update(line)
        elif self._terminal.is_terminal:
            self._status = self._terminal.status(line)
            self._status.start()
        else:
            self._terminal.print(line)
            self._printed = True
