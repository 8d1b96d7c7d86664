"""Supervision: what a worker's main process does when its child dies, must end, or is to be ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import Celery, bootsteps, signals
from celery.utils.log import get_logger
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from shared.broker import seconds_due
from shared.errors import StageFailed, Unavailable
from worker.bench import Bench
from worker.metrics import kind_of
from worker.stop import Stop
from worker.work import over_time

#: Seconds that a child has to hand back its stage before it is killed.
HAND_BACK_SECONDS = 8.0
#: Seconds between two looks at whether the child is still there.
LOOK_SECONDS = 0.5

logger = get_logger(__name__)


class StageRequest(Request):  # type: ignore[misc]
    """A task in a worker's main process, which clears up after its child."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The child begins; how long the task waited is not known of one that is delivered again."""
        super().on_accepted(pid, time_accepted)
        waited = seconds_due(self.request_dict)
        if waited is not None and not self.delivery_info["redelivered"]:
            self.app.metrics.note("queue_wait_seconds", self.delivery_info["routing_key"], value=waited)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The child's exception, or that the child is gone: then the message goes back into its queue."""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, WorkerLostError | SystemExit):
            with self._clearing_up() as bench:
                self._release(bench)
                reason = str(error).partition(" Job:")[0].rstrip(".")
                self.app.metrics.note("attempts_lost", self.name.removeprefix("distill."), "death")
                bench.attempts.blame(self._keys, self.hostname, reason)
                self._note(bench, f"the process died: {reason}", "ERROR")
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The child ran into the soft limit, or was killed at the hard one."""
        if not soft:
            with self._clearing_up() as bench:
                reason = over_time(self.time_limits[1] or timeout)
                for stage in self.kwargs["stages"]:
                    failure = f"{stage['title']}: {reason}"
                    bench.ledger.fail(self.kwargs["pipeline"], stage["key"], failure, self.hostname)
                self._note_all("failed")
                self._pass_on(bench)
                self._note(bench, f"killed: {reason}", "ERROR")
        super().on_timeout(soft, timeout)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Kill the child because the worker ends at once; the message goes back into its queue."""
        super().cancel(pool, signal, emit_retry)
        with self._clearing_up() as bench:
            bench.attempts.withdraw(self._release(bench))
            self._note(bench, "killed: the worker ends; another one goes on", "WARNING")

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Somebody revoked the task, as with Flower's Terminate: its pipeline is cancelled."""
        with self._clearing_up() as bench:
            bench.ledger.cancel(self.kwargs["pipeline"])
            bench.close(self.kwargs["pipeline"])
            self._note_all("cancelled")
            self._pass_on(bench)
            self._note(bench, f"killed, and the pipeline cancelled: {reason}", "WARNING")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _success_was_stored(self) -> bool:
        """Never trusted: a child that died after storing its success may not have counted it for its chord."""
        return False

    @property
    def _keys(self) -> list[str]:
        return [stage["key"] for stage in self.kwargs["stages"]]

    def _release(self, bench: Bench) -> list[str]:
        """Give up the leases that the child held; return their keys."""
        return [key for key in self._keys if bench.leases.release_of_the_dead(key, self.hostname, self.id)]

    def _pass_on(self, bench: Bench) -> None:
        """Give up what the child held, and wake whoever waits for it."""
        held = self._release(bench)
        bench.attempts.withdraw(held)
        for key in held:
            bench.wake(key)

    def _note_all(self, outcome: str) -> None:
        for stage in self.kwargs["stages"]:
            self.app.metrics.note("stages", kind_of(stage), outcome)

    def _note(self, bench: Bench, message: str, level: str) -> None:
        """Say in the pipeline's log what the child cannot say any more."""
        bench.logbook.note(self.kwargs["pipeline"], self.hostname, self._keys, message, level)

    @contextmanager
    def _clearing_up(self) -> Iterator[Bench]:
        """What cannot be done now is done by time: leases run out, and messages are delivered again."""
        try:
            yield self.app.bench()
        except StageFailed:
            pass  # Said by whoever takes up the stage the next time.
        except (Unavailable, OperationalError, redis.RedisError, KeyError, TypeError) as error:
            logger.warning("%s: not cleared up: %s", self.name, error)


def end_by_signal(app: Celery, stop: Stop) -> None:
    """Have the worker's child hand back its stage on SIGTERM or SIGINT, and the worker end soon in any case."""

    def ask(**_: Any) -> None:
        if stop.asked:
            return
        stop.ask()
        timer = threading.Timer(HAND_BACK_SECONDS, _end_at_once)
        timer.daemon = True
        timer.start()

    signals.worker_shutting_down.connect(ask, weak=False, dispatch_uid=id(app))


def notice_deaths(app: Celery) -> None:
    """Have the worker's main process see its child's death at once.

    Celery looks when the child's end of a pipe closes, which the kernel does a moment before the child can be
    waited for; who looks in that moment sees it alive, and the next look would be up to 5 s later (Celery 5.7).
    """

    class NoticeDeaths(bootsteps.StartStopStep):  # type: ignore[misc]
        """Looks on a timer of the main process."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            self.timer = parent.timer.call_repeatedly(LOOK_SECONDS, parent.pool.maintain_pool)

        def stop(self, _parent: Any) -> None:
            self.timer.cancel()

    app.steps["consumer"].add(NoticeDeaths)


def _end_at_once() -> None:
    with suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGQUIT)
