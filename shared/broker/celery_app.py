"""The Celery application: all settings of delivery and recovery in one place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery import Celery, signals
from celery.backends.base import DisabledBackend
from kombu import Queue, serialization
from kombu.transport.redis import Channel
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from distill_queue.shared.broker import transport
from distill_queue.shared.broker.fields import DUE, SIGNED_HEADERS
from distill_queue.shared.broker.keys import Keys
from distill_queue.shared.broker.signing import Key, Keyring
from distill_queue.shared.catalog import PRIORITIES, QUEUES
from distill_queue.shared.settings import Settings

#: Retries, about a second apart, while the broker is away: a quarter of an hour.
PATIENT_RETRIES = 900
#: Seconds within which a connection is made, with a packet or two lost.
CONNECT_SECONDS = 5
#: Seconds for which the branches of one pipeline may wait for each other: 90 days.
LONGEST_PIPELINE_SECONDS = 90 * 86_400
#: How the content types of signed messages begin; the name of the key follows.
SIGNED = "application/x-distill-signed-"


def lists_of(queue: str, prefix: str = "") -> list[str]:
    """The Redis lists in which a queue's messages wait, high priority first; `shared.ledger.queues` reads them."""
    return [f"{prefix}{queue}{Channel.sep}{number}" if number else f"{prefix}{queue}" for number in PRIORITIES.values()]


def keyring(settings: Settings) -> Keyring:
    """The keys with which this process signs, and whose messages it obeys."""
    return Keyring.of(settings.signing_keys)


class ClientBackend(DisabledBackend):  # type: ignore[misc]
    """The backend of clients: they keep no results, yet may send the chords that workers join."""

    def ensure_chords_allowed(self) -> None:
        """Allow chords."""


def create_app(settings: Settings, *, keeps_results: bool = True) -> Celery:
    """A Celery application that loses no task when its worker dies.

    A task is acknowledged after it ran; what is not acknowledged is delivered again after the
    visibility timeout, which workers renew for what they hold (see `worker.process.delivery`).
    A client needs no result backend: it reads the ledger.
    """
    transport.install()
    options = {
        "visibility_timeout": settings.holding_seconds,
        "unacked_restore_interval": min(5.0, settings.renewal_seconds),
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 5,
        "socket_connect_timeout": CONNECT_SECONDS,
        # A host that vanishes closes no connection, and TCP goes on trying to reach it for a quarter of an hour.
        "socket_timeout": settings.answer_seconds,
        "health_check_interval": settings.answer_seconds,
        "socket_keepalive": True,
        # Before kombu's keys and channels; the result backend reads it from its own copy of these options.
        "global_keyprefix": Keys.of(settings.prefix).prefix,
    }
    url = settings.broker.celery_url
    serializers = [_serializer(key) for key in keyring(settings).keys] or ["json"]
    patience = {"max_retries": PATIENT_RETRIES, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0}
    signals.before_task_publish.connect(_note_due)
    if settings.signing_keys:
        signals.before_task_publish.connect(_put_headers_into_body)
    app = Celery("distill", broker=url, backend=url if keeps_results else ClientBackend, set_as_current=False)
    app.conf.update(
        broker_use_ssl=settings.tls,
        redis_backend_use_ssl=settings.tls,
        task_serializer=serializers[0],
        # A message carries the rest of its chain: a fifth of the server's memory, for a twentieth of a millisecond.
        task_compression="zlib",
        result_serializer="json",
        accept_content=serializers,
        result_accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue="any",
        task_create_missing_queues=False,
        task_default_priority=PRIORITIES["normal"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        # After a reconnection a busy worker would reserve a message more, and keep it behind its running stage.
        worker_disable_prefetch=True,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_hijack_root_logger=False,
        task_track_started=True,
        worker_send_task_events=True,
        task_send_sent_event=True,
        result_expires=settings.history_seconds,
        # A branch may take longer than results are kept, and the others' results wait for it.
        result_chord_expires=LONGEST_PIPELINE_SECONDS,
        broker_transport_options=options,
        result_backend_transport_options=options | {"retry_policy": patience},
        # Celery would else forget that a stage is done where the first word of it goes into a dead connection.
        result_backend_always_retry=True,
        result_backend_max_retries=PATIENT_RETRIES,
        redis_socket_connect_timeout=CONNECT_SECONDS,
        redis_socket_timeout=settings.answer_seconds,
        # A stage that is done waits for a broker that is away: what comes after it must not be lost.
        **({"task_publish_retry_policy": patience} if keeps_results else {}),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_SECONDS,
        # Leases keep a stage that went on through the loss from running twice.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_soft_shutdown_timeout=5.0,
        worker_proc_alive_timeout=60.0,
    )
    return app


def seconds_due(headers: Mapping[str, Any]) -> float | None:
    """Seconds for which a message has waited, by this machine's clock; None where its sender did not say since when."""
    due = headers.get(DUE)
    return max(0.0, time.time() - due) if isinstance(due, float) else None


def _note_due(headers: dict[str, Any], **_: Any) -> None:
    """Note when a message is sent; one with a countdown lies in a worker's memory until that is over."""
    eta = headers.get("eta")
    headers[DUE] = datetime.fromisoformat(eta).timestamp() if eta else time.time()


def _put_headers_into_body(headers: dict[str, Any], body: tuple[Any, Any, dict[str, Any]], **_: Any) -> None:
    """Put the headers that workers obey into the signed body, in place of those of the last time it was sent."""
    headers.pop(SIGNED_HEADERS, None)
    body[2][SIGNED_HEADERS] = dict(headers)


def _serializer(key: Key) -> str:
    """The name of the serializer whose messages are JSON behind a key's seal; tasks and control commands alike."""

    def decode(body: str | bytes) -> object:
        return loads(key.open("message", bytes_to_str(body)))

    name = f"signed-{key.name}"
    serialization.register(name, lambda data: key.seal("message", dumps(data)), decode, SIGNED + key.name, "utf-8")
    return name
