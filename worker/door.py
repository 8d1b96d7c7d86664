"""The door: a worker looks who has sent a message before it does anything about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer
from kombu.exceptions import ContentDisallowed, DecodeError, KombuError
from kombu.message import Message

from shared.broker import SIGNED
from shared.errors import Unavailable, Untrusted
from shared.refusals import LONGEST_TEXT, Refusal

logger = get_logger(__name__)


class Door(Consumer):  # type: ignore[misc]
    """Celery's consumer, behind a look at each message's seal; what is refused is kept and counted."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Message], None]:
        """What is called with each task's message, in place of what Celery calls."""
        obey = super().create_task_handler(*arguments, **options)

        def handle(message: Message) -> None:
            try:
                _look(message)
            except KombuError as error:
                self.on_decode_error(message, error)
            else:
                obey(message)

        return handle

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Refuse a task, or a control command, that cannot be read or was not sent by whom it is to be."""
        headers, where = message.headers, message.delivery_info
        refusal = Refusal(
            time=time.time(),
            worker=self.hostname,
            reason=_reason(message, exc),
            task=_said(headers.get("task")),
            queue=_said(where.get("routing_key") or where.get("exchange")),
            body=_said(message.body),
        )
        try:
            self.app.bench().refuse(refusal)
        except Unavailable as error:
            logger.warning("a message is left unread: %s", error)
        else:
            message.ack()


def _look(message: Message) -> None:
    """Raise where a task is not what this worker accepts; kombu itself would let through some other types."""
    if message.content_type not in message.accept:
        raise ContentDisallowed(f"content of type {message.content_type!r}")
    if not isinstance(message.decode(), list):
        raise DecodeError("not the arguments of a task")


def _reason(message: Message, error: Exception) -> str:
    """Why a message is refused, for people."""
    is_signed = str(message.content_type).startswith(SIGNED)
    if not isinstance(error, ContentDisallowed):
        cause = error.__cause__ or error.__context__
        return str(cause) if isinstance(cause, Untrusted) else f"it cannot be read: {error}"[:LONGEST_TEXT]
    if is_signed and not any(name.startswith(SIGNED) for name in message.accept):
        return "it is signed, and this worker has no DISTILL_SIGNING_KEY"
    if is_signed:
        return "it is signed with another key than this worker has in DISTILL_SIGNING_KEY"
    return "it is not signed" if message.content_type == "application/json" else f"it is {_said(error)!r}"


def _said(value: object) -> str:
    """What the sender wrote, cut off where it is long."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return text[:LONGEST_TEXT]
