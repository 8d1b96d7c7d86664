"""Fitness: a worker whose server cannot be a broker ends at once, instead of failing at its first command."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from celery.utils.log import get_logger

from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import BrokerUnavailable, UnfitBroker
from distill_queue.shared.exit_code import ExitCode
from distill_queue.shared.settings import Settings

logger = get_logger(__name__)


def require_fit_broker(app: Celery, settings: Settings) -> None:
    """Add to the application's workers a step that checks the broker before its first use."""

    class RequireFitBroker(bootsteps.StartStopStep):  # type: ignore[misc]
        """Runs once, in the worker's main process; if the broker is away, later steps wait for it."""

        def start(self, _parent: Any) -> None:
            try:
                connect(settings, retries=0).close()
            except UnfitBroker as error:
                logger.critical("%s", error)
                raise SystemExit(ExitCode.BROKEN_WORLD) from None
            except BrokerUnavailable:
                pass

    app.steps["worker"].add(RequireFitBroker)
