"""Watchdog: decides when a worker's child that gives no sign of life is killed, and when killing it has failed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from distill_queue.worker.coordination.pulse import Pulse

#: Seconds without a sign of life that are always allowed, however short the visibility timeout: for a burdened machine,
#: or for the start of CUDA.
SHORTEST_SECONDS = 10.0
#: Seconds that are allowed while the child loads libraries, perhaps from a slow network file system.
LOADING_SECONDS = 300.0
#: The most seconds that are counted between two looks: in any others the main process itself was stopped or asleep.
LONGEST_LOOK_SECONDS = 1.0
#: Seconds after which a child that was killed and is still there counts as one that cannot be killed.
GONE_SECONDS = 5.0
#: Seconds without a sign of life after which users are told.
TELL_SECONDS = 5.0


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(slots=True)
class Watchdog:
    """Looks again and again at one child after another."""

    pulse: Pulse
    #: Seconds without a sign of life after which a child is killed: by then its leases have run out.
    limit_seconds: float
    kill: Callable[[int], None] = _kill
    #: Seconds without a sign of life of the child, counted only while the worker's main process was running.
    silent_seconds: float = 0.0
    #: Why the child cannot be used though it is still there, in words; empty if it can be used.
    stuck: str = ""
    #: The child that is watched, and a child that is killed only because the worker ends.
    pid: int | None = None
    killed_with_worker: int | None = None
    _beats: int = -1
    _looked: float | None = None
    #: For how long the child was silent when it was killed.
    _killed_at: float | None = None
    #: Why children were killed, by process id.
    _reasons: dict[int, str] = field(default_factory=dict)

    @property
    def allowed_seconds(self) -> float:
        """Seconds without a sign of life after which the child is killed, depending on whether it loads libraries."""
        limit = max(self.limit_seconds, SHORTEST_SECONDS)
        return max(limit, LOADING_SECONDS) if self.pulse.loads else limit

    def look(self, pid: int | None, now: float) -> None:
        """Look at the present child at a time of the monotonic clock, and kill it if it was silent for too long."""
        if pid != self.pid:
            self.pid, self._killed_at, self.stuck, self._beats = pid, None, "", -1
        passed = 0.0 if self._looked is None else min(now - self._looked, LONGEST_LOOK_SECONDS)
        beats, self._looked = self.pulse.beats, now
        if pid is None or (beats != self._beats and self._killed_at is None):
            self._beats, self.silent_seconds = beats, 0.0
            return
        self.silent_seconds += passed
        if self._killed_at is None:
            if self.silent_seconds >= self.allowed_seconds:
                self.kill_for_silence(pid)
        elif not self.stuck and self.silent_seconds - self._killed_at >= GONE_SECONDS:
            self.stuck = (
                f"its process {pid} cannot be killed, as where a disk or a network file system does not answer: it "
                "takes no new task; look at the mounts of its host, or end it"
            )

    def kill_for_silence(self, pid: int) -> None:
        """Kill a child that gives no sign of life."""
        self._killed_at = self.silent_seconds
        self._reasons[pid] = f"its process gave no sign of life for {self.silent_seconds:.0f} s"
        self.kill(pid)

    def kill_with_worker(self, pid: int) -> None:
        """Kill a child because the worker ends."""
        self.killed_with_worker = pid
        self.kill(pid)

    def reason(self, pid: int | None) -> str:
        """Why a child was killed, in words; empty if it was not killed for its silence."""
        return self._reasons.get(pid, "") if pid is not None else ""
