"""The log formatter: writes a worker's own log so that no message commands a terminal or looks like another entry."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

from distill_queue.shared.text import LONGEST_TEXT, plain_text

#: Stands before each line of an entry but its first, so that no line break in a message begins an entry.
INDENT = "    "


class LogFormatter(TaskFormatter):  # type: ignore[misc]
    """Celery's formatter of tasks, which colours an entry's text only after the text was made plain."""

    def __init__(self, text_format: str, *, date_format: str | None, colours: bool) -> None:
        super().__init__(text_format, use_color=False, datefmt=date_format)
        self._has_colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """An entry's text; if the text of what own code logs cannot be had, the entry says so."""
        try:
            text = super().format(record)
        except Exception as error:
            text = f"{record.levelname}: {record.name}: a message whose text cannot be had: {type(error).__name__}"
        plain = plain_text(text, LONGEST_TEXT).replace("\n", f"\n{INDENT}")
        colour = self.colors.get(record.levelname) if self._has_colours else None
        return str(colour(plain)) if colour else plain


def format_logs() -> None:
    """Make plain what this process and its forked children write into the worker's log."""
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(_replace_formatters, weak=False, dispatch_uid=(__name__, id(signal)))


def _replace_formatters(logger: logging.Logger, **_: Any) -> None:
    """Replace Celery's formatter with ours; handlers that others set up stay as they are."""
    for handler in logger.handlers:
        if isinstance(celerys := handler.formatter, ColorFormatter) and celerys._fmt:
            colours = celerys.use_color
            handler.setFormatter(LogFormatter(celerys._fmt, date_format=celerys.datefmt, colours=colours))
