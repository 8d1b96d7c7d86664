"""Environment variables of Python and of the libraries below torch, which must be set before these are loaded."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    # How long a thread of OpenMP looks for work before it sleeps. Beside another busy process a step took 20 to 75
    # times as long with the default, 10 times with this value; on a quiet machine both take the same (2 cores, MLPs).
    "GOMP_SPINCOUNT": "20000",
    # Gives matrix products the same bits with any number of threads. Without it, some of 64 or more rows by 500 or more
    # columns differ in the last bits (MKL of torch 2.15); it costs no time.
    "MKL_CBWR": "AUTO,STRICT",
    # Gives sets of texts, which own data and models may iterate over, the same order in every process. It is too late
    # once Python runs, as with `celery -A distill_queue.worker.app`.
    "PYTHONHASHSEED": "0",
}


def set_up() -> None:
    """Set the variables that the user has not set."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def restart_set_up() -> None:
    """Start this process anew if its hashes have no seed yet: Python reads the seed before anything else."""
    seeded = "PYTHONHASHSEED" in os.environ
    set_up()
    if not seeded:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (as it was started)
