"""Shutdown: bounds the time that a worker takes to end after SIGTERM, also with a child that hangs."""

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
#: Of these, the last seconds: a child without a sign of life in them will not hand back anything.
SILENT_SECONDS = 3.0
#: Seconds in which a child that can be killed is gone, and those in which its messages are put back.
GONE_SECONDS = 2.0
PUT_BACK_SECONDS = 1.0
#: Seconds in which all else has ended (see `worker_soft_shutdown_timeout`).
LAST_SECONDS = 7.0
#: Seconds after which a worker that was told to end is gone; the programs that start workers wait for longer.
LONGEST_SECONDS = HAND_BACK_SECONDS + LAST_SECONDS + GONE_SECONDS + PUT_BACK_SECONDS

logger = get_logger(__name__)


def end_by_signal(app: Celery, stop: Stop, watchdog: Watchdog) -> None:
    """Have the worker's child hand back its stage on SIGTERM or SIGINT, and the worker end soon in any case."""

    def ask(**_: Any) -> None:
        if not stop.asked:
            stop.ask()
            threading.Thread(target=_end_in_time, args=(watchdog,), name="shutdown", daemon=True).start()

    signals.worker_shutting_down.connect(ask, weak=False, dispatch_uid=id(app))


def _end_in_time(watchdog: Watchdog) -> None:
    """End this process, which does so by itself if all goes well."""
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
    """Kill the child if there is one; whether it is there all the same."""
    if watchdog.pid is None or not _is_there(watchdog.pid):
        return False
    watchdog.kill_with_worker(watchdog.pid)
    deadline = time.monotonic() + GONE_SECONDS
    while (there := _is_there(watchdog.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return there


def _is_there(pid: int) -> bool:
    """Whether a child of this process has not ended; it is left to the pool to be waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _exit(watchdog: Watchdog) -> None:
    """End at once: what waits for a child that cannot be killed waits for ever."""
    logger.error("the worker ends without its process %s, which does not", watchdog.pid)
    put_back(watchdog)
    time.sleep(PUT_BACK_SECONDS)
    os._exit(EX_FAILURE)
