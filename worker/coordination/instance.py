"""Instance: one start of a worker, whose processes reach each other without a broker."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Self

from distill_queue.worker.coordination.pulse import Pulse
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Instance:
    """A worker's main process and the children that it forks; made before the first fork."""

    #: Tells this worker from another one of the same name.
    id: str
    #: From the main process to its child: asks it to hand back the stage.
    stop: Stop
    #: From the child to the main process: says that the child lives.
    pulse: Pulse
    #: From both to the thread that serves metrics.
    metrics: Metrics

    @classmethod
    def create(cls, *, has_metrics: bool) -> Self:
        """A new worker."""
        return cls(uuid.uuid4().hex[:8], Stop(), Pulse(), Metrics(on=has_metrics))
