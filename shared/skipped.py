"""Skipped records: what was passed over since it cannot be read, told of once and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.line import shortened

#: Records that are remembered, so that each is logged and counted once; more, which no accident makes, are neither.
MOST_REMEMBERED = 1_000
#: Characters of a record's name, which may be anybody's, that are shown.
LONGEST_NAME = 150

logger = logging.getLogger(__name__)


class Skipped:
    """The records that a process has passed over: every other record is read as if they were not there."""

    def __init__(self, tell: Callable[[], object] = lambda: None, level: int = logging.WARNING) -> None:
        """Log each at a level, and call `tell`, when it is passed over for the first time."""
        #: Why each was passed over, by its name; the first ones.
        self.reasons: dict[str, str] = {}
        self._tell, self._level = tell, level

    def note(self, name: str, reason: object) -> None:
        """Pass over a record: log it if it is a new one, with a reason that is one line."""
        if name in self.reasons or len(self.reasons) >= MOST_REMEMBERED:
            return
        self.reasons[name] = str(reason)
        logger.log(self._level, "passed over: %s", reason)
        self._tell()

    def among(self, answers: Sequence[Any]) -> Sequence[Any]:
        """The broker's answers to several commands: those of keys that cannot be read are passed over.

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
        """Pass over the record of a name where the block finds that it cannot be read."""
        try:
            yield
        except UnreadableRecord as error:
            self.note(name, error)


def quoted(name: str) -> str:
    """A name that may be anything, between quotes and without what a terminal would obey."""
    return repr(shortened(name, LONGEST_NAME))
