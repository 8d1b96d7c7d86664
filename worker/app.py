"""The application that Celery and Flower start: `celery -A worker.app worker`."""

from __future__ import annotations

import sys

from celery import Celery

from shared.broker import create_app
from shared.errors import InvalidSettings
from shared.settings import Settings
from worker.delivery import renew_deliveries
from worker.tasks import register


def _create() -> Celery:
    try:
        settings = Settings.load()
    except InvalidSettings as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    app = create_app(settings)
    register(app, settings)
    renew_deliveries(app, settings)
    return app


app = _create()
