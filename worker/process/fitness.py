"""Fitness: a worker whose server can be no broker ends at once, in place of failing at its first command."""

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
    """Add to the application's workers the step that looks at the broker before anything is asked of it."""

    class RequireFitBroker(bootsteps.StartStopStep):  # type: ignore[misc]
        """Once, from the worker's main process; a broker that is away is waited for by the steps after it."""

        def start(self, _parent: Any) -> None:
            try:
                connect(settings, retries=0).close()
            except UnfitBroker as error:
                logger.critical("%s", error)
                raise SystemExit(ExitCode.BROKEN_WORLD) from None
            except BrokerUnavailable:
                pass

    app.steps["worker"].add(RequireFitBroker)
