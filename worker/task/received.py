"""Received task: Celery's task and its message, as far as the task loop asks for them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import Task
from celery.canvas import Signature

from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.worker.telemetry.log_capture import LogCapture


@dataclass(frozen=True, slots=True)
class ReceivedTask:
    """A task that this process has begun."""

    task: Task
    pipeline: str
    #: Its stages as JSON; what they hold is not checked yet.
    stages: list[dict[str, Any]]

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self.task.request.id)

    @property
    def name(self) -> str:
        """The task's name, as `distill.evaluate`."""
        return str(self.task.name)

    @property
    def worker(self) -> str:
        """The name of this worker."""
        return str(self.task.request.hostname)

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return str(self.task.request.delivery_info["routing_key"])

    @property
    def priority(self) -> Any:
        """Its priority, as Celery has it."""
        return self.task.request.delivery_info["priority"]

    @property
    def retries(self) -> int:
        """How often it was put into its queue again."""
        return int(self.task.request.retries)

    @property
    def serves(self) -> Collection[str]:
        """The queues that this worker serves."""
        queues: Collection[str] = self.task.app.amqp.queues.consume_from
        return queues

    @property
    def soft_limit_seconds(self) -> float | None:
        """Its soft time limit: the message's own, or else the worker's."""
        seconds: float | None = self.task.request.timelimit[1] or self.task.soft_time_limit
        return seconds

    @property
    def keys(self) -> list[str]:
        """The keys of its stages, where they have some."""
        return [str(stage.get("key", "")) for stage in self.stages]

    @property
    def connection_errors(self) -> tuple[type[Exception], ...]:
        """What an event raises while the broker is away."""
        errors: tuple[type[Exception], ...] = self.task.app.connection_for_write().connection_errors
        return (OSError, *errors)

    def message(self) -> Signature:
        """The task, to be put into its queue again; what troubled it before is over."""
        request = self.task.request
        kwargs = request.kwargs | {"trouble_since": 0.0}
        return self.task.signature_from_request(kwargs=kwargs, kwargsrepr=request.kwargsrepr)

    def retry(self, countdown_seconds: float, **kwargs: Any) -> Exception:
        """Put the task into its queue again; what is raised for that.

        Args:
            countdown_seconds: the time until it may begin.
            **kwargs: what changes of its arguments.

        """
        request = self.task.request
        changed = request.kwargs | kwargs
        retry: Exception = self.task.retry(
            kwargs=changed, countdown=countdown_seconds, kwargsrepr=request.kwargsrepr, throw=False
        )
        return retry

    def tell_progress(self, words: str) -> None:
        """Tell Flower how far the task is.

        Raises:
            Exception: one of `connection_errors`.

        """
        self.task.send_event("task-progress", result=words, retry=False)

    def tell_end(self, event: str, **facts: object) -> None:
        """Tell Flower how a task ends that has no result: Celery would say nothing, and there it would run for ever."""
        with suppress(*self.connection_errors):
            self.task.send_event(event, retry=False, **facts)

    def capture(self, logs: PipelineLogs) -> LogCapture:
        """Take down what is logged while the task runs."""
        return LogCapture(logs, self.pipeline, self.worker, self.keys)
