"""Pulse: tells a worker's main process that its child lives, without a broker or a clock."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds between two beats.
BEAT_SECONDS = 0.25
_COUNT = slice(0, 8)
_LOADS = 8


class Pulse:
    """A number in memory that a process shares with its forked child, which counts it up as long as it lives.

    A thread of the child counts, so not while the child is stopped or hangs, or while a call of its code holds Python's
    interpreter lock.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 9)
        self._main_process = os.getpid()

    def start(self) -> None:
        """Beat from a thread of this process, the child, until it ends; a worker without a child needs no beats."""
        if os.getpid() == self._main_process:
            return
        self._memory[_LOADS] = 0
        threading.Thread(target=self._keep_beating, name="pulse", daemon=True).start()

    @property
    def beats(self) -> int:
        """The number of beats so far."""
        return int.from_bytes(self._memory[_COUNT], "little")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Announce that libraries are loaded in the block: that may stop all threads as long as the disk takes."""
        self._memory[_LOADS] = 1
        try:
            yield
        finally:
            self._memory[_LOADS] = 0

    @property
    def loads(self) -> bool:
        """Whether the child is loading libraries."""
        return self._memory[_LOADS] == 1

    def beat(self) -> None:
        """Give a sign of life."""
        self._memory[_COUNT] = ((self.beats + 1) % 2**64).to_bytes(8, "little")

    def _keep_beating(self) -> None:
        wait = threading.Event().wait
        while not wait(BEAT_SECONDS):
            self.beat()
