"""`python -m distill_queue.worker …` is `celery -A distill_queue.worker.app …`, without the working folder."""

from __future__ import annotations

import sys
from typing import NoReturn

from distill_queue.shared.starter import tell
from distill_queue.worker.machine import libraries


def main() -> None:
    """Start the worker; if it cannot start, print why in one message."""
    libraries.restart_set_up()
    try:
        from distill_queue.worker.app import app
    except ImportError as error:
        _fail(f"a library of the worker cannot be loaded: {error}: install 'distill-queue[worker]' again")
    from celery.bin.celery import celery

    celery.params[0].default = app
    celery.main(
        sys.argv[1:], prog_name="python -m distill_queue.worker"
    )  # Not `app.start`, which forgets the exit code.


def _fail(reason: str) -> NoReturn:
    tell(reason)
    sys.exit(f"error: {reason}")


if __name__ == "__main__":
    main()
