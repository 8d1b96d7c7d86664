"""Child processes: started in sessions of their own, ended with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from distill_queue.shared import starter
from distill_queue.shared.errors import DistillError, InvalidSettings, Unavailable, store_errors
from distill_queue.shared.exit_code import ExitCode

#: Seconds that a child has to end after SIGTERM, before it is killed: more than `worker.process.shutdown` takes.
STOP_SECONDS = 20.0
#: Seconds after which a child that lives is taken to be well.
WELL_SECONDS = 60.0


@dataclass(slots=True)
class Child:
    """A child process, in a session of its own so that Ctrl-C reaches only its parent."""

    name: str
    command: list[str]
    environment: dict[str, str]
    #: What its output is added to; None: this process's own output.
    log: Path | None
    restarts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    #: The end of a pipe through which the process tells how its start went, and what it has told.
    _pipe: int | None = None
    _started: float = 0.0
    _said: str = ""

    def start(self) -> None:
        """Start the process.

        Raises:
            StoreUnavailable: its log cannot be written.

        """
        self._hang_up()
        self._said, self._started = "", time.monotonic()
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            with _opened(self.log) as log:
                self._process = subprocess.Popen(
                    self.command,
                    env=os.environ | self.environment | {starter.PIPE: str(theirs)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT if log else None,
                    start_new_session=True,
                    pass_fds=(theirs,),
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )
        except BaseException:
            self._hang_up()
            raise
        finally:
            os.close(theirs)

    @property
    def worked(self) -> bool:
        """Whether the process has told since its start that it works."""
        return starter.READY in self._hear().splitlines()

    @property
    def error(self) -> str:
        """Why the process ended, as it told or as the end of its log has it; empty where neither says anything."""
        said = [line for line in self._hear().splitlines() if line != starter.READY]
        return "\n".join(said) or self.last_lines()

    @property
    def was_misled(self) -> bool:
        """Whether the process ended because its settings or arguments are wrong: it would end so again."""
        return self.exit_code == ExitCode.WRONG_INPUT and not self.worked

    def failure(self, reason: str) -> DistillError:
        """The error of a process that ended, of the kind that its exit code says."""
        kinds: dict[int | None, type[DistillError]] = {
            ExitCode.WRONG_INPUT: InvalidSettings,
            ExitCode.BROKEN_WORLD: Unavailable,
        }
        return kinds.get(self.exit_code, DistillError)(reason)

    def _hear(self) -> str:
        """All that the process has told since its start."""
        with suppress(BlockingIOError):
            while self._pipe is not None and (heard := os.read(self._pipe, 4096)):
                self._said += heard.decode(errors="replace")
        return self._said

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def seconds(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    @property
    def exit_code(self) -> int | None:
        """How the process ended, if it has: its exit code, or less than 0, the signal that killed it."""
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid if self._process else None

    def _hang_up(self) -> None:
        """Read what is left in the pipe, and close it."""
        self._hear()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self.alive:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the process until a monotonic time, then kill the rest of its session."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._hang_up()

    def last_lines(self, lines: int = 5) -> str:
        """The end of its log; empty where it is gone, or cannot be read."""
        text = ""
        with suppress(OSError):
            text = self.log.read_text("utf-8", errors="replace") if self.log else ""
        return "\n".join(text.splitlines()[-lines:])


def _opened(log: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    with store_errors(log or Path()):
        return log.open("ab") if log else nullcontext()


def celery_command(*arguments: str) -> list[str]:
    """The command line of this project's Celery application."""
    # -P: a file of the user's in the working folder, as flower.py, is not taken for a library.
    return [sys.executable, "-P", "-m", "distill_queue.worker", *arguments]


def worker_command(queues: str, name: str, *options: str) -> list[str]:
    """The command line of a worker of some queues, separated by commas."""
    return celery_command("worker", "-Q", queues, "-n", f"{name}@%h", "-l", "INFO", *options)


def _end_with_parent() -> None:
    """Have Linux send SIGTERM to this child when its parent dies, even of SIGKILL."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
