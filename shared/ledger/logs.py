"""Pipeline logs: what workers logged while they worked on a pipeline, kept in the broker for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.connection import broker_errors
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.frozen import UNREADABLE, Frozen
from distill_queue.shared.ledger.status import LAST_TIME
from distill_queue.shared.line import Line, Lines
from distill_queue.shared.skipped import quoted
from distill_queue.shared.text import plain_text

#: Lines of a pipeline that are kept, the newest ones; Redis lets go of a hundred or so at a time.
KEPT_LINES = 10_000
#: Longest message, in characters; of a longer one its beginning and its end.
LONGEST_MESSAGE = 4_000
#: Lines that are read at once.
PAGE_LINES = 1_000
#: Seconds for which a reader waits for another line; without one, the log of a finished pipeline is at its end.
LAST_WORD_SECONDS = 1.0
#: Seconds for which a follower waits for a broker that went away, and between two tries.
AWAY_SECONDS = 600.0
AGAIN_SECONDS = 0.2


class LogLine(Frozen):
    """Something that a worker said."""

    model_config = ConfigDict(allow_inf_nan=False)

    #: Seconds since the epoch, by the worker's own clock.
    time: float = Field(ge=0.0, le=LAST_TIME)
    #: As the module `logging` names it.
    level: Line
    worker: Line
    #: Short keys of the stages that it is about; none where it is about the whole pipeline.
    stages: tuple[Line, ...]
    message: Lines
    #: Where it stands in the log, once it does.
    place: str = ""


class PipelineLogs:
    """One stream a pipeline, which expires with the pipeline's state."""

    def __init__(self, client: BrokerClient, history_seconds: int) -> None:
        self._redis: Any = client
        self._names, self._skipped = client.names, client.skipped
        self._history_seconds = history_seconds

    def write(self, pipeline: str, lines: Sequence[LogLine]) -> None:
        """Add lines in one round trip; they are dropped where the log's key is of another type.

        Raises:
            BrokerUnavailable: the broker does not answer; some of the lines may be there.

        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipe:
            for line in lines:
                self.add(pipe, pipeline, line)
            pipe.expire(self._names.log(pipeline), self._history_seconds)
            self._skipped.among(pipe.execute(raise_on_error=False))

    def add(self, pipe: Any, pipeline: str, line: LogLine) -> None:
        """Add a line to a round trip, whose sender also puts off the log's expiry."""
        pipe.xadd(self._names.log(pipeline), _fields(line), maxlen=KEPT_LINES, approximate=True)

    def note(self, pipeline: str, worker: str, keys: Iterable[str], message: str, level: str = "INFO") -> None:
        """Add a line about the stages of some keys."""
        stages = tuple(key[:8] for key in keys)
        self.write(pipeline, [LogLine(time=time.time(), level=level, worker=worker, stages=stages, message=message)])

    def read(self, pipeline: str) -> Iterator[LogLine]:
        """The lines that are there, in the order in which they arrived."""
        start = "-"
        while True:
            with broker_errors():
                page = self._redis.xrange(self._names.log(pipeline), start, count=PAGE_LINES)
            yield from self._lines(pipeline, page)
            if len(page) < PAGE_LINES:
                return
            start = f"({page[-1][0]}"

    def follow(self, pipeline: str, finished: Callable[[], bool], place: str = "") -> Iterator[LogLine]:
        """The lines after a place, and those to come, until the pipeline is finished and all is read.

        Raises:
            BrokerUnavailable: the broker was away for longer than `AWAY_SECONDS`.

        """
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                ended, came = finished(), self._await(pipeline, place)
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)
                continue
            deadline = time.monotonic() + AWAY_SECONDS
            yield from self._lines(pipeline, came)
            place = came[-1][0] if came else place
            if ended and not came:
                return

    def _await(self, pipeline: str, place: str) -> list[tuple[str, dict[str, str]]]:
        """The entries after a place, once there are any; none if there are none for a while."""
        with broker_errors():
            wait_ms = int(LAST_WORD_SECONDS * 1000)
            streams = self._redis.xread({self._names.log(pipeline): place or "0"}, count=PAGE_LINES, block=wait_ms)
        return [entry for _, page in streams for entry in page]

    def _lines(self, pipeline: str, page: Iterable[tuple[str, dict[str, str]]]) -> Iterator[LogLine]:
        """The lines of a page, but for entries that are none."""
        for place, fields in page:
            try:
                yield _line(place, fields)
            except UNREADABLE:
                name = self._names.log(pipeline)
                self._skipped.note(name, f"{quoted(name)} at the broker has entries that are no lines of a log")


def _fields(line: LogLine) -> dict[str, str]:
    return {
        "time": f"{line.time:.3f}",
        "level": line.level,
        "worker": line.worker,
        "stages": " ".join(line.stages),
        "message": plain_text(line.message, LONGEST_MESSAGE),
    }


def _line(place: str, fields: dict[str, str]) -> LogLine:
    return LogLine(
        time=float(fields["time"]),
        level=fields["level"],
        worker=fields["worker"],
        stages=tuple(fields["stages"].split()),
        message=fields["message"],
        place=place,
    )
