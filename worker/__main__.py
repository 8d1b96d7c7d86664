"""`python -m worker …` is `celery -A worker.app …`, but for that one's importing from the working folder first."""

from __future__ import annotations

import sys

from worker.app import app

app.start(sys.argv[1:])
