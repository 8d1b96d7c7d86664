"""Admission: a worker checks each message, and who has sent it, before it does anything about it."""

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

#: What is raised where the broker is away, whatever the message is.
BROKER_IS_AWAY = (redis.RedisError, OperationalError, OSError)

logger = get_logger(__name__)


class Commands(Control):  # type: ignore[misc]
    """Celery's step that obeys control commands, behind the same look."""

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
    """Celery's consumer, behind a look at each message and its seal; what is refused is kept and counted.

    It asks and tells other workers nothing: that is of no use here, and their answers are one more entrance.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, with the look at control commands."""

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
        """What is called with each task's message, in place of what Celery calls."""
        obey = super().create_task_handler(*arguments, **options)

        def handle(message: Message) -> None:
            self._is_handed_on = False
            try:
                _look(message)
                obey(message)
            except BROKER_IS_AWAY:
                raise
            except Exception as error:
                if self._is_handed_on:  # Then it is no fault of the message's.
                    raise
                self.on_decode_error(message, error)

        return handle

    def on_unknown_message(self, _body: object, message: Message) -> None:
        """Refuse what Celery takes for no task."""
        self.on_decode_error(message, ValueError("it is no task"))

    def on_unknown_task(self, _body: object, message: Message, _error: Exception) -> None:
        """Refuse a task that this worker does not know, as of another version."""
        self.on_decode_error(message, ValueError("this worker knows no such task"))

    def on_invalid_task(self, _body: object, message: Message, error: Exception) -> None:
        """Refuse a task that Celery can make nothing of."""
        self.on_decode_error(message, error)

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
            refuse(MainProcess.of(self.app).connections().refusals, refusal)
        except Unavailable as error:
            logger.warning("a message is left unread: %s", error)
        else:
            if not message.acknowledged:
                message.ack()


def _look(message: Message) -> None:
    """Raise where a task is not what this worker accepts; kombu itself would let through some other types.

    What is signed is obeyed as it was when it was signed: its headers are those of its body, not those around it. A
    version before this one put none there.
    """
    if message.content_type not in message.accept:
        raise ContentDisallowed(f"content of type {message.content_type!r}")
    body = message.decode()
    check_body(body)
    if message.content_type.startswith(SIGNED):
        message.headers = body[2].get(SIGNED_HEADERS, message.headers)
    check_headers(message.headers)


def _reason(message: Message, error: Exception) -> str:
    """Why a message is refused, for people."""
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
    """What the sender wrote, cut off where it is long; nothing if it is no text."""
    if not isinstance(value, str | bytes):
        return ""
    encoded = value if isinstance(value, bytes) else value[:LONGEST_TEXT].encode(errors="replace")
    return encoded[: 4 * LONGEST_TEXT].decode(errors="replace")[:LONGEST_TEXT]
