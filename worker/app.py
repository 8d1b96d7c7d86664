"""The application that Celery and Flower start: `celery -A worker.app worker`."""

from __future__ import annotations

import os
import sys
from functools import cache

from celery import Celery

from shared.broker import create_app
from shared.errors import InvalidSettings
from shared.settings import Settings
from worker.bench import Bench
from worker.delivery import renew_deliveries
from worker.stop import Stop
from worker.supervision import end_by_signal, notice_deaths
from worker.tasks import register

#: How long a thread of torch's looks for work before it sleeps. With OpenMP's own value a step took 20 to 75 times as
#: long beside another busy process, with this one 10 times, and no longer on a quiet machine (2 cores, MLPs).
SPINS = "20000"


def create(settings: Settings) -> Celery:
    """The workers' application: tasks, renewed deliveries, and supervision of the child."""
    app = create_app(settings)
    stop = Stop()
    #: The main process's connections; made at first use.
    app.bench = cache(lambda: Bench.connect(app, settings, stop, patient=False))
    register(app, settings, stop)
    renew_deliveries(app, settings)
    notice_deaths(app)
    end_by_signal(app, stop)
    return app


def _create() -> Celery:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # Read when torch is loaded.
    try:
        return create(Settings.load())
    except InvalidSettings as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


app = _create()
