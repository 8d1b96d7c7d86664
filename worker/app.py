"""The application that Celery and Flower start: `celery -A worker.app worker`."""

from __future__ import annotations

import sys
from functools import cache

from distill_queue_main import require_own_packages

require_own_packages()

from celery import Celery

from shared.broker import create_app
from shared.errors import InvalidSettings
from shared.settings import Settings
from worker import libraries
from worker.bench import Bench
from worker.delivery import renew_deliveries
from worker.exporter import serve_metrics
from worker.fitness import require_fit_broker
from worker.metrics import Metrics
from worker.stop import Stop
from worker.supervision import end_by_signal, notice_deaths
from worker.tasks import register


def create(settings: Settings) -> Celery:
    """The workers' application: tasks, renewed deliveries, metrics, and supervision of the child."""
    app = create_app(settings)
    stop, metrics = Stop(), Metrics(on=settings.metrics_port > 0)
    #: The main process's connections; made at first use.
    app.bench = cache(lambda: Bench.connect(app, settings, stop, metrics, patient=False))
    app.metrics = metrics
    app.conf.worker_consumer = "worker.door:Door"
    require_fit_broker(app, settings)
    register(app, settings, stop, metrics)
    renew_deliveries(app, settings, metrics)
    serve_metrics(app, settings, metrics)
    notice_deaths(app)
    end_by_signal(app, stop)
    return app


def _create() -> Celery:
    libraries.set_up()
    try:
        return create(Settings.load())
    except InvalidSettings as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


app = _create()
