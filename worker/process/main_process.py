"""Main process: what a worker's main process has, to look after its child and its messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

from celery import Celery

from distill_queue.shared.settings import Settings
from distill_queue.worker.coordination.connections import Connections
from distill_queue.worker.coordination.instance import Instance
from distill_queue.worker.process.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class MainProcess:
    """The one object that is kept with Celery's application.

    Celery itself makes consumers (`Admission`) and requests (`StageRequest`), and hands them nothing but the
    application; all others are given what they need.
    """

    instance: Instance
    watchdog: Watchdog
    #: Those of this process; made at first use.
    connections: Callable[[], Connections]

    @classmethod
    def attach(cls, app: Celery, settings: Settings, instance: Instance) -> Self:
        """Make an application's main process, and keep it there."""
        connections = cache(lambda: Connections.connect(app, settings, instance, patient=False))
        app.main_process = main_process = cls(instance, Watchdog(instance.pulse, settings.holding_seconds), connections)
        return main_process

    @classmethod
    def of(cls, app: Celery) -> Self:
        """The main process of an application."""
        main_process: Self = app.main_process
        return main_process
