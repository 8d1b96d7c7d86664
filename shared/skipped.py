"""Skipped records: records that cannot be read are passed over, each logged and counted once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.line import shortened

#: The most records that are remembered, so that each is logged and counted once; more, which no accident makes, are
#: neither logged nor counted.
MOST_REMEMBERED = 1_000
#: The most characters that are shown of a record's name, which anybody may have chosen.
LONGEST_NAME = 150

logger = logging.getLogger(__name__)


class Skipped:
    """The records that a process has passed over; all others are read as if these were not there."""

    def __init__(self, tell: Callable[[], object] = lambda: None, level: int = logging.WARNING) -> None:
        """Log a record at a level, and call `tell`, when it is passed over for the first time."""
        #: Why the first ones were passed over, by name.
        self.reasons: dict[str, str] = {}
        self._tell, self._level = tell, level

    def note(self, name: str, reason: object) -> None:
        """Pass over a record: log it if it is a new one, with a reason of one line."""
        if name in self.reasons or len(self.reasons) >= MOST_REMEMBERED:
            return
        self.reasons[name] = str(reason)
        logger.log(self._level, "passed over: %s", reason)
        self._tell()

    def among(self, answers: Sequence[Any]) -> Sequence[Any]:
        """Return the broker's answers to several commands; note those that are keys which cannot be read.

        Raises:
            Exception: the first of the answers that is another error.

        """
        for answer in answers:
            if isinstance(answer, UnreadableRecord):
                self.note(str(answer), answer)
            elif isinstance(answer, Exception):
                raise answer
        return answers

    @contextmanager
    def unreadable(self, name: str) -> Iterator[None]:
        """Pass over a record if the block raises that it cannot be read."""
        try:
            yield
        except UnreadableRecord as error:
            self.note(name, error)


def quoted(name: str) -> str:
    """A name that anybody may have chosen, between quotes and without characters that a terminal obeys."""
    return repr(shortened(name, LONGEST_NAME))
