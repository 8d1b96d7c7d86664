"""Main process: the objects with which a worker's main process looks after its child and its messages."""

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
    """The one object of ours that Celery's application keeps.

    Celery itself makes consumers (`Admission`) and requests (`StageRequest`), and gives them only the application; all
    other objects are given what they need.
    """

    instance: Instance
    watchdog: Watchdog
    #: The connections of this process, made at the first call.
    connections: Callable[[], Connections]

    @classmethod
    def attach(cls, app: Celery, settings: Settings, instance: Instance) -> Self:
        """Make the main process of an application, and have the application keep it."""
        connections = cache(lambda: Connections.connect(app, settings, instance, patient=False))
        app.main_process = main_process = cls(instance, Watchdog(instance.pulse, settings.holding_seconds), connections)
        return main_process

    @classmethod
    def of(cls, app: Celery) -> Self:
        """The main process of an application."""
        main_process: Self = app.main_process
        return main_process
