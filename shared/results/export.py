"""What the export of a student returns: a file, and how it did in its own runtime."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import SealedLine


class AdaptedRecord(Frozen):
    """How a student was trained on with rounded weights, since it lost too much as integers of 8 bits."""

    epochs: int
    learning_rate: float
    #: In the training loop.
    seconds: float
    #: Of the file as it was before, on the test set.
    accuracy_before: float

    @property
    def words(self) -> str:
        """What was done, and what the accuracy was before, as a part of a sentence."""
        epochs = f"{self.epochs:,} epoch{'' if self.epochs == 1 else 's'}"
        return f"after {epochs} with rounded weights ({self.accuracy_before:.2%} before)"


class ExportRecord(Frozen):
    """A student as a file, scored on the test set by the runtime that the file is for."""

    kind: Literal["export"] = "export"
    #: The format's name, and the file's.
    format: SealedLine
    file: SealedLine
    size_bytes: int
    samples: int
    #: Of the file, and of the trained model that it was made from.
    accuracy: float
    model_accuracy: float
    #: Share of the samples on which both choose the same class.
    agreement: float
    #: The largest difference of a logit between both; and the largest logit of the model's less the smallest.
    difference: float
    logits_range: float
    #: Milliseconds of a sample's way through the file in a process of its own: median, 95th percentile, and of loading
    #: the file and answering once.
    latency_median_ms: float
    latency_p95_ms: float
    cold_start_ms: float
    threads: int
    #: The runtime with its version, and the processor.
    runtime: SealedLine
    machine: SealedLine
    #: How often the file has each operator.
    operators: dict[str, int] = Field(default={})
    #: None where the student's own weights were kept.
    adapted: Annotated[AdaptedRecord | None, Field(exclude_if=lambda adapted: adapted is None)] = None

    @property
    def measured_on(self) -> str:
        """Where the times were measured, in words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.runtime}, {threads}, {self.machine}"

    @property
    def summary(self) -> str:
        """The record in a few words."""
        return (
            f"{self.file}, {self.size_bytes:,} bytes, {self.accuracy:.2%} on {self.samples:,} test samples, "
            f"{self.agreement:.2%} agree with the student{f', {self.adapted.words}' if self.adapted else ''}"
        )
