"""Time limit: a task's soft one, raised where an exception leaves nothing half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import SIG_SOFT_TIMEOUT
from celery import current_task

#: Seconds until the next look at whether it may be raised.
LOOK_SECONDS = 0.1


def wait_for_imports() -> None:
    """Have this process, a pool's child, raise soft time limits between imports only.

    In the midst of one Celery's own handler leaves a library half loaded, which cannot be loaded again in the
    process, or ends it where compiled code runs the import (torch: SIGABRT); in a `__del__` Python drops the exception.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # A pool of threads has no soft limits.
    passed_for = None

    def passed(_number: int, frame: FrameType | None) -> None:
        nonlocal passed_for
        passed_for = _task()
        raise_or_wait(frame)

    def look_again(_number: int, frame: FrameType | None) -> None:
        if passed_for == _task():  # Its task has not ended meanwhile.
            raise_or_wait(frame)

    signal.signal(SIG_SOFT_TIMEOUT, passed)
    signal.signal(signal.SIGALRM, look_again)


def _task() -> str | None:
    return current_task.request.id if current_task else None


def raise_or_wait(frame: FrameType | None) -> None:
    """Raise the limit if no import or `__del__` is under way in a frame, or look again in a moment."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("importlib._bootstrap") or frame.f_code.co_name == "__del__":
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS)
            return
        frame = frame.f_back
    raise SoftTimeLimitExceeded
