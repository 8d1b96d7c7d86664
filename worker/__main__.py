"""`python -m worker …` is `celery -A worker.app …`, but for that one's importing from the working folder first."""

from __future__ import annotations

import sys

from worker import libraries

libraries.restart_set_up()

from worker.app import app  # noqa: E402 (not before that)

app.start(sys.argv[1:])
