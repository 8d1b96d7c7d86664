"""Sections: what is measured together, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill_queue.worker.machine.runtime import Runtime

#: A line of a section's table, by column.
Row = dict[str, str | int | float]
#: What a section yields as it is measured: a row, or a sentence that stands below the table.
Part = Row | str


@dataclass(frozen=True, slots=True)
class Setting:
    """What a section is given."""

    #: "cuda", or "cpu" in a dry run.
    device_type: str
    #: Whether small sizes will do, as it is only to be seen that the section works.
    dry: bool
    #: An empty folder.
    folder: Path
    #: A folder that holds `MNIST/raw`, and in words where its digits are from.
    mnist: Path
    mnist_is: str
    #: Operations a second of the fastest matrix product of each precision, from the section of ceilings.
    peaks: dict[str, float] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return torch.device(self.device_type)

    @property
    def runtime(self) -> Runtime:
        """The runtime of a stage there."""
        return Runtime(self.device)

    @property
    def queue(self) -> str:
        """What a spec's `device` says to run there."""
        return "gpu" if self.device_type == "cuda" else "cpu"


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the report."""

    name: str
    title: str
    #: Seconds after which it is ended, with the rows that it has by then.
    limit_seconds: float
    #: Is run in a process of its own.
    measure: Callable[[Setting], Iterator[Part]]
