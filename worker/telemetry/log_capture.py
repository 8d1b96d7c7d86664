"""Log capture: sends lines that are logged and printed while a task runs into its pipeline's logs."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from typing import Self

from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.ledger.logs import LONGEST_MESSAGE, LogLine, PipelineLogs
from distill_queue.shared.text import plain_text

#: Seconds between two writes: a killed process loses at most the lines of so many seconds.
WRITE_SECONDS = 0.5
#: The most lines that wait to be written; if there are more, as while the broker is away, the oldest are left out.
WAITING_LINES = 2_000
#: Seconds for which a task's end waits for its last lines to be written.
LAST_SECONDS = 2.0
#: Loggers whose lines are for those who run workers, not for the users of pipelines.
HOUSEKEEPING = ("distill_queue.worker.coordination.leases",)

logger = logging.getLogger(__name__)


class LogCapture(logging.Handler):
    """A handler of all loggers, for the length of its `with` block; a thread of its own speaks to the broker.

    So a broker that is away or slow does not hold up the code that logs. The thread starts at the first line: a stage
    whose result is found logs none.
    """

    def __init__(self, logs: PipelineLogs, pipeline: str, worker: str, keys: Iterable[str]) -> None:
        super().__init__()
        self._logs, self._pipeline, self._worker = logs, pipeline, worker
        self._stages = tuple(key[:8] for key in keys)
        self._waiting: deque[LogLine] = deque()
        self._left_out = 0
        self._lines = count()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_down, name="log-capture", daemon=True)
        self._attached = ExitStack()

    def __enter__(self) -> Self:
        """Begin to capture lines."""
        with ExitStack() as attached:
            for each in _outermost_loggers():
                attached.callback(each.removeHandler, self)
                each.addHandler(self)
            for redirect, log in ((redirect_stdout, logger.info), (redirect_stderr, logger.warning)):
                printed = Printed(log)
                attached.callback(printed.finish)
                attached.enter_context(redirect(printed))
            self._attached = attached.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the lines that wait, unless the broker takes too long."""
        self._attached.close()
        self._ended.set()
        if self._writer.ident:
            self._writer.join(LAST_SECONDS)

    @contextmanager
    def about(self, keys: Iterable[str]) -> Iterator[None]:
        """Assign the lines that are logged in the block to some stages only."""
        before, self._stages = self._stages, tuple(key[:8] for key in keys)
        try:
            yield
        finally:
            self._stages = before

    def note(self, message: str) -> None:
        """Write a line into the pipeline's logs alone, not into the worker's own log."""
        self._take(self.line(message))

    def line(self, message: str, level: str = "INFO", when: float | None = None) -> LogLine:
        """A line about the present stages, without the pipeline's name, which its reader knows."""
        message = plain_text(message.removeprefix(f"{self._pipeline}: "), LONGEST_MESSAGE)
        when = time.time() if when is None else when
        return LogLine(time=when, level=level, worker=self._worker, stages=self._stages, message=message)

    def emit(self, record: logging.LogRecord) -> None:
        """Capture a record, unless writing to the broker has logged it."""
        if record.thread == self._writer.ident:
            return
        if record.name in HOUSEKEEPING and record.levelno < logging.WARNING:
            return
        try:
            self._take(self.line(self.format(record), record.levelname, record.created))
        except Exception:
            self.handleError(record)

    def _take(self, line: LogLine) -> None:
        """Append a line to those that wait to be written."""
        # No lock: a time limit's exception may come at any place, and would leave the lock taken.
        self._waiting.append(line)
        if next(self._lines) == 0:
            self._writer.start()
        while len(self._waiting) > WAITING_LINES and self._next():
            self._left_out += 1

    def _next(self) -> LogLine | None:
        """Take the oldest line that waits, if there is one."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _write_down(self) -> None:
        """Write the lines that wait, again and again."""
        while not self._ended.wait(WRITE_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write the lines that wait; while the broker is away, they go on waiting."""
        # Only the lines that wait now: with code that never stops logging, this would never end.
        lines = [line for _ in range(len(self._waiting)) if (line := self._next())]
        left_out, self._left_out = self._left_out, 0
        try:
            if left_out:
                why = f"… {left_out:,} lines are left out: the broker was away, or they were too many at once"
                self._logs.note(self._pipeline, self._worker, self._stages, why, "WARNING")
                left_out = 0
            if lines:
                self._logs.write(self._pipeline, lines)
        except BrokerUnavailable:
            self._left_out += left_out
            self._waiting.extendleft(reversed(lines))


class Printed(io.TextIOBase):
    """A stream that logs each line once it is whole; of a line that overwrites itself, like progress bars, its end."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = ""
        self._of_thread = threading.local()

    def write(self, text: str) -> int:
        """Take in a text, unless logging itself prints it here: that would never end."""
        if not getattr(self._of_thread, "speaks", False):
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                self._say(line)
            if len(self._rest) > LONGEST_MESSAGE:
                self.finish()
        return len(text)

    def finish(self) -> None:
        """Log the last line, which has no line break yet."""
        rest, self._rest = self._rest, ""
        self._say(rest)

    def _say(self, line: str) -> None:
        if text := line.rstrip().rpartition("\r")[2]:
            self._of_thread.speaks = True
            try:
                self._log(text)
            finally:
                self._of_thread.speaks = False


def _outermost_loggers() -> Iterator[logging.Logger]:
    """The loggers that hand on nothing to a parent: the root, and by default Celery's for tasks."""
    yield logging.getLogger()
    if not (of_tasks := logging.getLogger("celery.task")).propagate:
        yield of_tasks
