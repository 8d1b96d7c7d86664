"""Export job: all that an exporter works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distill_queue.worker.exports.deployable import Deployable, RawInputs
from distill_queue.worker.exports.facts import FileFacts

#: Training samples by which ranges of values are found, and how many of them at a time.
CALIBRATION_SAMPLES, CALIBRATION_BATCH = 256, 64


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A student to be exported."""

    #: As messages call it.
    name: str
    model: Deployable
    facts: FileFacts
    #: Raw training samples to find the ranges of values by, always the same ones, a batch at a time.
    calibration: Callable[[], Iterator[RawInputs]]
