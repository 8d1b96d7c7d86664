"""Libraries below torch, and Python: what their environment variables must say before these are loaded."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    # How long a thread of OpenMP's looks for work before it sleeps. With its own value a step took 20 to 75 times as
    # long beside another busy process, with this one 10 times, and no longer on a quiet machine (2 cores, MLPs).
    "GOMP_SPINCOUNT": "20000",
    # Matrix products to the same bits with any number of threads. Without it, some of 64 or more rows by 500 or more
    # columns differ in the last ones (MKL of torch 2.15); with it they take as long.
    "MKL_CBWR": "AUTO,STRICT",
    # The order of sets of texts, which own data and models may go through, is the same in every process; but where
    # Python runs already, as with `celery -A distill_queue.worker.app`, it comes too late for that.
    "PYTHONHASHSEED": "0",
}


def set_up() -> None:
    """Set what the user has not set."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def restart_set_up() -> None:
    """Start this process anew if its hashes have no seed yet, which Python reads before anything else."""
    seeded = "PYTHONHASHSEED" in os.environ
    set_up()
    if not seeded:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (as it was started)
