"""The Celery application: all settings of delivery and recovery in one place."""

from __future__ import annotations

from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import Queue

from shared.settings import Settings

QUEUES = ("cpu", "gpu", "any")


class ClientBackend(DisabledBackend):  # type: ignore[misc]
    """The backend of clients: they keep no results, yet may send the chords that workers join."""

    def ensure_chords_allowed(self) -> None:
        """Allow them."""


def create_app(settings: Settings, *, keeps_results: bool = True) -> Celery:
    """A Celery application that loses no task when its worker dies.

    A task is acknowledged after it ran; what is not acknowledged is delivered again after the
    visibility timeout, which workers renew for what they hold (see `worker.delivery`).
    A client needs no result backend: it reads the ledger.
    """
    timeout = settings.visibility_timeout_seconds
    transport = {
        "visibility_timeout": timeout,
        "unacked_restore_interval": max(1.0, timeout / 8),
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": max(5, int(timeout)),
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
    backend = settings.broker_url if keeps_results else ClientBackend
    app = Celery("distill", broker=settings.broker_url, backend=backend, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue="any",
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_hijack_root_logger=False,
        task_track_started=True,
        worker_send_task_events=True,
        task_send_sent_event=True,
        result_expires=settings.history_seconds,
        broker_transport_options=transport,
        result_backend_transport_options=transport,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=5,
    )
    return app
