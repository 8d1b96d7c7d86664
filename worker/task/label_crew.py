"""Label crew: other workers are called to label blocks of a stage that one of them has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.errors import DistillError, HandedBack, LeaseLost, UnreadableRecord
from distill_queue.shared.ledger.workers import WorkerRegistry
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.skipped import quoted
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.task.runners import Runners
from distill_queue.worker.telemetry.log_capture import LogCapture
from distill_queue.worker.telemetry.metrics import Metrics

HELP_LABEL = "distill.help_label"
#: Seconds for which a call for help waits in its queue, at the least.
SHORTEST_CALL_SECONDS = 60.0
#: Seconds between two looks at whether a worker still has the stage.
LOOK_SECONDS = 1.0

logger = get_task_logger(__name__)


@dataclass(slots=True)
class SharedCrew:
    """The crew of a stage: one counter in the broker gives each block's number to one of its members.

    The stage's own worker waits for no helper, and loses nothing with one that dies: what has been given away and is
    not there in the end, it computes itself.
    """

    received: ReceivedTask
    stage: Stage
    registry: WorkerRegistry
    #: The broker's counters.
    counters: BrokerClient
    #: Seconds for which the counter is kept.
    history_seconds: int
    #: Whether the counter gives the blocks away: not before the first call, and always to a helper.
    shared: bool = False
    _begun: int = 0

    @property
    def present(self) -> int:
        """Other workers that serve this queue."""
        queue, own = self.received.queue, self.received.worker
        try:
            return sum(queue in worker.queues and worker.name != own for worker in self.registry.workers())
        except (redis.RedisError, UnreadableRecord):
            return 0

    def call(self, helpers: int, seconds: float, /) -> bool:
        """Put a message a helper into the stage's queue; False where the broker is away."""
        wait = max(SHORTEST_CALL_SECONDS, seconds)
        kwargs = {"pipeline": self.received.pipeline, "stages": [self.stage.model_dump(mode="json")]}
        signature = self.received.task.app.signature(HELP_LABEL, kwargs=kwargs, immutable=True)
        what = f"{self.received.pipeline} · helps with {self.stage.title} · key {self.stage.ref.short_key}"
        try:
            if not self.shared:
                self.counters.set(self._counter, self._begun, ex=self.history_seconds)
            for _ in range(helpers):
                signature.apply_async(
                    queue=self.received.queue,
                    priority=self.received.priority,
                    expires=wait,
                    soft_time_limit=self.received.soft_limit_seconds,
                    argsrepr="",
                    kwargsrepr=what,
                    retry=False,
                )
        except (redis.RedisError, OperationalError) as error:
            logger.warning("%s: no help could be called: %s", self.received.pipeline, error)
            return False
        self.shared = True
        logger.info(
            "%s: %d called to help with %s, %.0f s of work", self.received.pipeline, helpers, self.stage.title, seconds
        )
        return True

    def blocks(self, total: int) -> Iterator[int]:
        """Numbers in order, once others help from the counter, until there are no more or the broker is away."""
        while True:
            try:
                block = self._next_block() if self.shared else self._begun
            except (redis.RedisError, UnreadableRecord) as error:
                logger.warning("%s: blocks are not shared any more: %s", self.received.pipeline, error)
                return
            if block >= total:
                return
            self._begun = block + 1
            yield block

    def _next_block(self) -> int:
        with self.counters.pipeline() as pipe:
            pipe.incr(self._counter)
            pipe.expire(self._counter, self.history_seconds)  # Also where it was gone before.
            block = int(pipe.execute()[0]) - 1
        if block < 0:
            raise UnreadableRecord(f"{quoted(self._counter)} at the broker is no counter of blocks")
        return block

    @property
    def _counter(self) -> str:
        return self.counters.names.blocks(self.stage.key)


@dataclass(slots=True)
class HelpersProgress:
    """Called at every block of a helper: tells Flower, and ends the help when it is not needed any more."""

    received: ReceivedTask
    stage: Stage
    leases: Leases
    metrics: Metrics
    stop: Stop
    _next: float = field(default=0.0)

    def __call__(self, progress: str, samples: int = 0, _share: float | None = None) -> None:
        """Report.

        Raises:
            StageStopped: the worker is told to end, or the stage is done or left.

        """
        # Not summed up as in the stage's own progress: a batch here is a good part of a second's work.
        self.metrics.note("samples", self.stage.kind, value=samples)
        if self.stop.asked:
            raise HandedBack(progress)
        if time.monotonic() < self._next:
            return
        if not self.leases.held(self.stage.key):
            raise LeaseLost(f"no worker works on {self.stage.title} any more")
        self.received.tell_progress(progress)
        self._next = time.monotonic() + LOOK_SECONDS


def help_label(crew: SharedCrew, progress: HelpersProgress, runners: Runners, capture: LogCapture) -> str:
    """Label blocks of another worker's stage; errors are logged only, as that worker will meet them itself."""
    stage, pipeline = crew.stage, crew.received.pipeline
    if not progress.leases.held(stage.key):
        return "nothing left to help with"
    device, runner = runners.make(crew.received.queue, progress, crew=crew)
    capture.note(f"helps on {device}")
    try:
        done = f"{runner.help(stage)} blocks of {stage.title}"
    except (DistillError, redis.RedisError) as error:
        logger.info("%s: helped no longer: %s", pipeline, error)
        return f"stopped: {error}"
    capture.note(f"helped with {done}")
    return done
