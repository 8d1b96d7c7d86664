"""Supervision: what a worker's main process does when its child dies, falls silent, or must end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import Celery, bootsteps, signals
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.request import Request
from celery.worker.state import active_requests, reserved_requests, scheduled_requests, task_ready
from kombu.exceptions import OperationalError

from distill_queue.shared.broker.celery_app import seconds_due
from distill_queue.shared.errors import StageFailed, Unavailable, UnknownPipeline, UnreadableRecord
from distill_queue.shared.frozen import UNREADABLE
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.status import StageState
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.connections import Connections
from distill_queue.worker.coordination.kept_messages import KeptMessages
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.process.main_process import MainProcess
from distill_queue.worker.process.watchdog import TELL_SECONDS, Watchdog
from distill_queue.worker.task.attempt import over_time
from distill_queue.worker.telemetry.metrics import Metrics, kind_of

#: Seconds between two looks at the child, and looks between two messages about its silence.
LOOK_SECONDS = 0.5
LOOKS_A_WORD = 4

logger = get_logger(__name__)


class StageRequest(Request):  # type: ignore[misc]
    """A task in a worker's main process, which cleans up after the child that did the task."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Note that the child begins, and how long the task waited; for a task delivered again, that is not known."""
        super().on_accepted(pid, time_accepted)
        waited = seconds_due(self.request_dict)
        if waited is not None and not self.delivery_info["redelivered"]:
            self._metrics.note("queue_wait_seconds", self.delivery_info["routing_key"], value=waited)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Called with the child's exception, or when the child is gone: then the message goes back into its queue."""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, WorkerLostError | SystemExit):
            watchdog = MainProcess.of(self.app).watchdog
            with self._clearing_up() as connections:
                self._release(connections.leases)
                if self.worker_pid and self.worker_pid == watchdog.killed_with_worker:
                    self._end_with_worker(connections.attempts, connections.logs)
                else:
                    silence = watchdog.reason(self.worker_pid)
                    reason = silence or str(error).partition(" Job:")[0].rstrip(".")
                    self._metrics.note("attempts_lost", self.name.removeprefix("distill."), "death")
                    connections.attempts.blame(self._keys, self.hostname, reason)
                    if silence:
                        given_up = StageState(progress=f"{silence}: given up there")
                        connections.ledger.restate(
                            self.kwargs["pipeline"], self._keys, self.hostname, lambda _: given_up
                        )
                    self._note(
                        connections.logs, f"the process {'was killed' if silence else 'died'}: {reason}", "ERROR"
                    )
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Called when the child ran into the soft time limit, or was killed at the hard one."""
        if not soft:
            with self._clearing_up() as connections:
                reason = over_time(self.time_limits[1] or timeout)
                for stage in self.kwargs["stages"]:
                    failure = f"{stage['title']}: {reason}"
                    connections.ledger.fail(self.kwargs["pipeline"], stage["key"], failure, self.hostname)
                self._note_all("failed")
                self._pass_on(connections.leases, connections.attempts, connections.kept_messages)
                self._note(connections.logs, f"killed: {reason}", "ERROR")
        super().on_timeout(soft, timeout)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Kill the child because the worker ends at once; the message goes back into its queue."""
        super().cancel(pool, signal, emit_retry)
        with self._clearing_up() as connections:
            self._release(connections.leases)
            self._end_with_worker(connections.attempts, connections.logs)

    def tell_of_silence(self) -> None:
        """Write into the progress of the child's stages for how long it has given no sign of life."""
        watchdog = MainProcess.of(self.app).watchdog
        words = f"no sign of life for {watchdog.silent_seconds:.0f} s; killed after {watchdog.allowed_seconds:.0f} s"
        with self._clearing_up() as connections:
            connections.notes.restate(
                self.kwargs["pipeline"],
                self._keys,
                self.hostname,
                lambda state: state.model_copy(update={"progress": words}),
            )

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Cancel the pipeline of a task that was revoked, as with Flower's Terminate."""
        with self._clearing_up() as connections:
            connections.ledger.cancel(self.kwargs["pipeline"])
            connections.close(self.kwargs["pipeline"])
            self._note_all("cancelled")
            self._pass_on(connections.leases, connections.attempts, connections.kept_messages)
            self._note(connections.logs, f"killed, and the pipeline cancelled: {reason}", "WARNING")
        super()._announce_revoked(reason, terminated, signum, expired)

    def _success_was_stored(self) -> bool:
        """Return False: a child that died after storing its success may not have counted the success for its chord."""
        return False

    @property
    def _metrics(self) -> Metrics:
        return MainProcess.of(self.app).instance.metrics

    @property
    def _keys(self) -> list[str]:
        return [stage["key"] for stage in self.kwargs["stages"]]

    def _end_with_worker(self, attempts: Attempts, logs: PipelineLogs) -> None:
        """Count no attempt for a child that is killed because its worker ends."""
        attempts.withdraw(self._keys, self.hostname)
        self._note(logs, "killed: the worker ends; another one goes on", "WARNING")

    def _release(self, leases: Leases) -> list[str]:
        """Give up the leases that the child held; return their keys."""
        return [key for key in self._keys if leases.release_of_the_dead(key, self.hostname, self.id)]

    def _pass_on(self, leases: Leases, attempts: Attempts, kept_messages: KeptMessages) -> None:
        """Give up the leases that the child held, and wake the tasks that wait for them."""
        held = self._release(leases)
        attempts.withdraw(self._keys, self.hostname)
        for key in held:
            leases.unpark(key, kept_messages.send)

    def _note_all(self, outcome: str) -> None:
        for stage in self.kwargs["stages"]:
            self._metrics.note("stages", kind_of(stage), outcome)

    def _note(self, logs: PipelineLogs, message: str, level: str) -> None:
        """Write a line into the pipeline's log in place of the child, which cannot any more."""
        logs.note(self.kwargs["pipeline"], self.hostname, self._keys, message, level)

    @contextmanager
    def _clearing_up(self) -> Iterator[Connections]:
        """Log errors of cleaning up and go on: time heals them, as leases run out and messages are delivered again."""
        try:
            yield MainProcess.of(self.app).connections()
        except StageFailed:
            pass  # The next worker that takes up the stage reports it.
        except (
            Unavailable,
            UnknownPipeline,
            UnreadableRecord,
            OperationalError,
            redis.RedisError,
            *UNREADABLE,
        ) as error:
            logger.warning("%s: not cleaned up: %s", self.name, error)


def watch_child(app: Celery, watchdog: Watchdog) -> None:
    """Have the worker's main process notice at once that its child died, and soon that it gives no sign of life.

    Celery looks when the child's end of a pipe closes, which the kernel does a moment before it reports the child as
    dead: a look in that moment finds the child alive, and the next one comes up to 5 s later (Celery 5.7).
    """
    signals.worker_process_init.connect(lambda **_: watchdog.pulse.start(), weak=False, dispatch_uid=id(app))

    class WatchChild(bootsteps.StartStopStep):  # type: ignore[misc]
        """Looks on a timer of the main process."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            _take_nothing_while_stuck(parent.task_consumer.channel.qos, watchdog)
            self.looks = 0
            self.told_of: int | None = None
            self.timer = parent.timer.call_repeatedly(LOOK_SECONDS, self._look, (parent.pool,))

        def stop(self, _parent: Any) -> None:
            self.timer.cancel()

        def _look(self, pool: Any) -> None:
            was_stuck = watchdog.stuck
            pool.maintain_pool()
            watchdog.look(_only_child(pool), time.monotonic())
            self.looks += 1
            if watchdog.stuck:
                if not was_stuck:
                    logger.error("%s", watchdog.stuck)
                put_back(watchdog, pool)
            elif was_stuck:
                logger.warning("the process that could not be killed is gone: the worker ends, to be started again")
                _end_to_be_started_again(app)
            elif (
                watchdog.silent_seconds >= TELL_SECONDS and not watchdog.pulse.loads and self.looks % LOOKS_A_WORD == 0
            ):
                _tell_of_silence(watchdog, log=self.told_of != watchdog.pid)
                self.told_of = watchdog.pid

    app.steps["consumer"].add(WatchChild)


def _end_to_be_started_again(app: Celery) -> None:
    """End this worker as on SIGTERM, but as a failure: some supervisors start only what failed again."""
    signals.worker_shutting_down.send(sender=app, sig="SIGTERM", how="Warm", exitcode=EX_FAILURE)
    worker_state.should_stop = EX_FAILURE


def _tell_of_silence(watchdog: Watchdog, *, log: bool) -> None:
    """Report for how long the child has given no sign of life: in its stages' progress, and if asked in the log."""
    if log:
        logger.warning("the process %s gives no sign of life", watchdog.pid)
    for request in list(active_requests):
        if isinstance(request, StageRequest):
            request.tell_of_silence()


def put_back(watchdog: Watchdog, pool: Any = None) -> None:
    """Put all messages of a worker whose child cannot be killed back into their queues, those with a countdown too.

    The pool forgets them, so that the death of the child, if it comes after all, concerns no message.
    """
    for request in [*reserved_requests, *scheduled_requests]:
        if (job := request._apply_result and request._apply_result()) and pool is not None:
            job.discard()
            with suppress(ValueError):
                pool._pool.outbound_buffer.remove(job)
        if request in active_requests:
            request.on_failure(_lost(watchdog.reason(request.worker_pid) or watchdog.stuck))
        else:
            request._already_revoked = True  # Else a request that waits for the child would still begin.
            task_ready(request)
            request.reject(requeue=True)


def _take_nothing_while_stuck(qos: Any, watchdog: Watchdog) -> None:
    """Have a channel ask for no message while the child cannot be used."""
    may_consume = qos.can_consume
    qos.can_consume = lambda: not watchdog.stuck and may_consume()


def _only_child(pool: Any) -> int | None:
    """The process of a pool of one, as workers have; None for a larger pool, whose processes share one pulse."""
    processes = getattr(getattr(pool, "_pool", None), "_pool", None) or []
    return processes[0].pid if len(processes) == 1 else None


def _lost(reason: str) -> ExceptionInfo:
    """A child's death, as the pool reports it."""
    try:
        raise WorkerLostError(reason)
    except WorkerLostError:
        return ExceptionInfo()
