"""Metrics: a worker's counts, from its main process and from the child that does its stages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from distill_queue.shared.catalog import STAGE_KINDS

OUTCOMES = ("found", "computed", "failed", "cancelled", "handed_back")
CAUSES = ("death", "error")
#: Upper ends of histograms' bins in seconds: from a stage that is found to a training overnight.
SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0)

Name = Literal[
    "queue_wait_seconds",
    "queue_length",
    "queue_oldest_seconds",
    "stages",
    "stage_seconds",
    "samples",
    "attempts",
    "attempts_lost",
    "lease_renewals",
    "leases_lost",
    "broker_connections",
    "records_unreadable",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus shows it."""

    type: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()


#: The metrics by name, without `distill_` before it and without `_total` after counters' names.
METRICS: dict[Name, Metric] = {
    "queue_wait_seconds": Metric("histogram", "Seconds from a task's being due to its being begun.", ("queue",)),
    "queue_length": Metric("gauge", "Tasks that wait in a queue.", ("queue",)),
    "queue_oldest_seconds": Metric("gauge", "Seconds for which a queue's next task has waited so far.", ("queue",)),
    "stages": Metric("counter", "Stages of pipelines that ended here, by how.", ("kind", "outcome")),
    "stage_seconds": Metric("histogram", "Seconds that computing a stage took.", ("kind",)),
    "samples": Metric(
        "counter", "Samples that models were trained on, or that they labelled or were tested on.", ("kind",)
    ),
    "attempts": Metric("counter", "Attempts to compute a stage that were begun.", ("kind",)),
    "attempts_lost": Metric("counter", "Attempts that the child's death ended, or an error.", ("kind", "cause")),
    "lease_renewals": Metric("counter", "Renewals of leases."),
    "leases_lost": Metric("counter", "Leases that another worker was seen to have taken over."),
    "broker_connections": Metric("counter", "Connections of the worker to its broker: the first one, and one a loss."),
    "records_unreadable": Metric("counter", "Records at the broker that were passed over, as they cannot be read."),
}


class Count(NamedTuple):
    """Something that was counted or measured."""

    name: Name
    labels: list[str]
    value: float


class Metrics:
    """Takes counts in a worker's processes, and passes them to the process that serves them.

    They go through a pipe, so that a killed child takes none with it. Each count is a line, short enough to be written
    whole or not at all.
    """

    def __init__(self, *, on: bool) -> None:
        self._pipe = os.pipe() if on else None
        if self._pipe:
            os.set_blocking(self._pipe[1], False)

    def note(self, name: Name, *labels: str, value: float = 1.0) -> None:
        """Add to a counter, observe for a histogram, or set a gauge."""
        if self._pipe:
            line = json.dumps(Count(name, list(labels), value)) + "\n"
            # The pipe is full if the main process is paused: better lose a count than hold up a stage.
            with suppress(BlockingIOError):
                os.write(self._pipe[1], line.encode())

    @property
    def on(self) -> bool:
        """Whether the metrics are served."""
        return self._pipe is not None

    def counts(self) -> Iterator[Count]:
        """All counts from now on, as long as this process lives."""
        if self._pipe:
            with open(self._pipe[0], encoding="utf-8", closefd=False) as lines:
                for line in lines:
                    yield Count(*json.loads(line))


def kind_of(message: Mapping[str, Any]) -> str:
    """The kind of a stage in a message, which anybody may have written."""
    recipe = message.get("recipe")
    kind = recipe.get("kind") if isinstance(recipe, dict) else None
    return kind if kind in STAGE_KINDS else "unknown"
