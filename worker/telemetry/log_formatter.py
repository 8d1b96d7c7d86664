"""The log formatter: writes a worker's own log, so that nothing in it is obeyed or taken for another entry."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from distill_queue.shared.text import LONGEST_TEXT, plain_text

#: Before each line of an entry but its first: what stands behind a line break in a message begins no entry.
INDENT = "    "


class LogFormatter(TaskFormatter):  # type: ignore[misc]
    """Celery's, whose colours are put around an entry's text only after that was made plain."""

    def __init__(self, text_format: str, *, date_format: str | None, colours: bool) -> None:
        super().__init__(text_format, use_color=False, datefmt=date_format)
        self._has_colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """An entry's text; what own code logs may have no words: then the entry says so."""
        try:
            text = super().format(record)
        except Exception as error:
            text = f"{record.levelname}: {record.name}: a message whose text cannot be had: {type(error).__name__}"
        plain = plain_text(text, LONGEST_TEXT).replace("\n", f"\n{INDENT}")
        colour = self.colors.get(record.levelname) if self._has_colours else None
        return str(colour(plain)) if colour else plain


def format_logs() -> None:
    """Have all that this process, and those that it forks, write into the worker's log be plain."""
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(_replace_formatters, weak=False, dispatch_uid=(__name__, id(signal)))


def _replace_formatters(logger: logging.Logger, **_: Any) -> None:
    """Put our formatter in the place of Celery's; handlers of others stay as they were set up."""
    for handler in logger.handlers:
        if isinstance(celerys := handler.formatter, ColorFormatter) and celerys._fmt:
            colours = celerys.use_color
            handler.setFormatter(LogFormatter(celerys._fmt, date_format=celerys.datefmt, colours=colours))
