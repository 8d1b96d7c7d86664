"""Shutdown: limits the time that a worker takes to end after SIGTERM, even if its child hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from celery import Celery, signals
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger

from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.process.supervision import put_back
from distill_queue.worker.process.watchdog import Watchdog

#: Seconds that a child has to hand back its stage before it is killed.
HAND_BACK_SECONDS = 8.0
#: The last of these seconds: a child that gives no sign of life in them will not hand back anything.
SILENT_SECONDS = 3.0
#: Seconds after which a killed child is gone, if it can be killed at all; seconds for putting its messages back.
GONE_SECONDS = 2.0
PUT_BACK_SECONDS = 1.0
#: Seconds in which the rest of the worker ends (see `worker_soft_shutdown_timeout`).
LAST_SECONDS = 7.0
#: Seconds after which a worker that was told to end is gone; the programs that start workers wait for longer.
LONGEST_SECONDS = HAND_BACK_SECONDS + LAST_SECONDS + GONE_SECONDS + PUT_BACK_SECONDS

logger = get_logger(__name__)


def end_by_signal(app: Celery, stop: Stop, watchdog: Watchdog) -> None:
    """On SIGTERM or SIGINT, have the worker's child hand back its stage, and the worker end even if the child hangs."""

    def ask(**_: Any) -> None:
        if not stop.asked:
            stop.ask()
            threading.Thread(target=_end_in_time, args=(watchdog,), name="shutdown", daemon=True).start()

    signals.worker_shutting_down.connect(ask, weak=False, dispatch_uid=id(app))


def _end_in_time(watchdog: Watchdog) -> None:
    """End this process after the time allowed; if all goes well it has ended by itself before."""
    time.sleep(HAND_BACK_SECONDS - SILENT_SECONDS)
    beats = watchdog.pulse.beats
    time.sleep(SILENT_SECONDS)
    if watchdog.pulse.beats == beats and _kill_child(watchdog):
        _exit(watchdog)
    if watchdog.killed_with_worker is None:
        with suppress(ProcessLookupError):
            os.kill(os.getpid(), signal.SIGQUIT)
    time.sleep(LAST_SECONDS)
    _kill_child(watchdog)
    _exit(watchdog)


def _kill_child(watchdog: Watchdog) -> bool:
    """Kill the child if there is one; return whether it is still there."""
    if watchdog.pid is None or not _is_there(watchdog.pid):
        return False
    watchdog.kill_with_worker(watchdog.pid)
    deadline = time.monotonic() + GONE_SECONDS
    while (there := _is_there(watchdog.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return there


def _is_there(pid: int) -> bool:
    """Whether a child of this process has not ended; the pool is left to wait for the child."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _exit(watchdog: Watchdog) -> None:
    """End at once: the usual way would wait for ever for a child that cannot be killed."""
    logger.error("the worker ends, though its process %s does not", watchdog.pid)
    put_back(watchdog)
    time.sleep(PUT_BACK_SECONDS)
    os._exit(EX_FAILURE)
