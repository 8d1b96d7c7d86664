"""Admission: a worker checks each message and its signature before it acts on the message."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import redis
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer
from celery.worker.consumer.control import Control
from kombu.exceptions import ContentDisallowed, OperationalError
from kombu.message import Message

from distill_queue.shared.broker.celery_app import SIGNED
from distill_queue.shared.broker.entry import REASON, UNREADABLE, check_body, check_command, check_headers
from distill_queue.shared.broker.fields import SIGNED_HEADERS
from distill_queue.shared.errors import Unavailable, Untrusted
from distill_queue.shared.ledger.refusals import LONGEST_TEXT, Refusal
from distill_queue.worker.coordination.refused_messages import refuse
from distill_queue.worker.process.main_process import MainProcess

#: Errors that say that the broker is away, not that a message is wrong.
BROKER_IS_AWAY = (redis.RedisError, OperationalError, OSError)

logger = get_logger(__name__)


class Commands(Control):  # type: ignore[misc]
    """Celery's step that obeys control commands, after the same check as for tasks."""

    def __init__(self, c: Consumer, **options: Any) -> None:
        super().__init__(c, **options)
        obey = self.box.on_message

        def handle(body: object, message: Message) -> None:
            try:
                check_command(body)
            except ValueError as error:
                c.on_decode_error(message, error)
            else:
                obey(body, message)

        self.box.on_message = handle


class Admission(Consumer):  # type: ignore[misc]
    """Celery's consumer, which checks each message and its seal first; refused messages are kept and counted.

    It neither asks other workers nor tells them anything: that is of no use here, and answers would be a way in.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, with the check of control commands."""

        default_steps: ClassVar[list[str]] = [
            "distill_queue.worker.process.admission:Commands" if step.endswith(":Control") else step
            for step in Consumer.Blueprint.default_steps
        ]

    def __init__(
        self,
        on_task_request: Callable[[Any], None],
        *arguments: Any,
        worker_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._is_handed_on = False

        def hand_on(request: Any) -> None:
            self._is_handed_on = True
            on_task_request(request)

        alone = {"without_gossip": True, "without_mingle": True}
        super().__init__(hand_on, *arguments, worker_options={**(worker_options or {}), **alone}, **options)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Message], None]:
        """The function that is called with each task's message, in place of Celery's."""
        obey = super().create_task_handler(*arguments, **options)

        def handle(message: Message) -> None:
            self._is_handed_on = False
            try:
                _look(message)
                obey(message)
            except BROKER_IS_AWAY:
                raise
            except Exception as error:
                if self._is_handed_on:  # Then the message is not at fault.
                    raise
                self.on_decode_error(message, error)

        return handle

    def on_unknown_message(self, _body: object, message: Message) -> None:
        """Refuse a message that Celery does not take for a task."""
        self.on_decode_error(message, ValueError("it is no task"))

    def on_unknown_task(self, _body: object, message: Message, _error: Exception) -> None:
        """Refuse a task that this worker does not know, as of another version."""
        self.on_decode_error(message, ValueError("this worker knows no such task"))

    def on_invalid_task(self, _body: object, message: Message, error: Exception) -> None:
        """Refuse a task that Celery cannot use."""
        self.on_decode_error(message, error)

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Refuse a task or a control command that cannot be read, or whose sender has not the signing key."""
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
            refuse(MainProcess.of(self.app).connections().refusals, refusal)
        except Unavailable as error:
            logger.warning("a message is left unread: %s", error)
        else:
            if not message.acknowledged:
                message.ack()


def _look(message: Message) -> None:
    """Raise if this worker does not accept a task; kombu itself would let through some other types of content.

    A signed task is obeyed as it was signed: with the headers in its body, not with those around it. Earlier versions
    put none into the body.
    """
    if message.content_type not in message.accept:
        raise ContentDisallowed(f"content of type {message.content_type!r}")
    body = message.decode()
    check_body(body)
    if message.content_type.startswith(SIGNED):
        message.headers = body[2].get(SIGNED_HEADERS, message.headers)
    check_headers(message.headers)


def _reason(message: Message, error: Exception) -> str:
    """Why a message is refused, in words for people."""
    if message.content_type == UNREADABLE:
        return _said(f"it cannot be read: {message.headers.get(REASON)}")
    is_signed = str(message.content_type).startswith(SIGNED)
    if not isinstance(error, ContentDisallowed):
        cause = error.__cause__ or error.__context__
        return str(cause) if isinstance(cause, Untrusted) else _said(f"it cannot be read: {error}")
    if is_signed and not any(name.startswith(SIGNED) for name in message.accept):
        return "it is signed, and this worker has no DISTILL_SIGNING_KEY"
    if is_signed:
        return "it is signed with another key than this worker has in DISTILL_SIGNING_KEY"
    return "it is not signed" if message.content_type == "application/json" else f"it is {_said(str(error))!r}"


def _said(value: object) -> str:
    """Text of the sender's, cut off if it is long; empty if it is no text."""
    if not isinstance(value, str | bytes):
        return ""
    encoded = value if isinstance(value, bytes) else value[:LONGEST_TEXT].encode(errors="replace")
    return encoded[: 4 * LONGEST_TEXT].decode(errors="replace")[:LONGEST_TEXT]
