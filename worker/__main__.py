"""`python -m worker …` is `celery -A worker.app …`, but for that one's importing from the working folder first."""

from __future__ import annotations

import sys

from distill_queue_main import require_own_packages

require_own_packages()

from worker import libraries

libraries.restart_set_up()

from worker.app import app

app.start(sys.argv[1:])
