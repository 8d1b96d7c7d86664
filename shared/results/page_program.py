"""Page program: a small model as operations that a report's page computes, and how well these answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import SealedLine

#: The file of a program.
PAGE_PROGRAM = "page.json"
#: The channels that an image may have, and the most pixels of its sides.
CHANNELS, LONGEST_SIDE = (1, 3), 64
#: The most bytes of a file, and of all programs in one page.
MOST_BYTES = 1_000_000
#: The test samples on which a program's answers are compared with its model's.
CHECKED_SAMPLES = 1_000


class PageProgramRecord(Frozen):
    """What a program's file tells, without its operations."""

    kind: Literal["page_program"] = "page_program"
    #: Why the model has no program; None where it has one.
    reason: SealedLine | None = None
    #: On how many test samples it was compared with the model, and the share that gets the same class from both.
    samples: int = 0
    agreement: float = 0.0

    @property
    def summary(self) -> str:
        """The record in a few words."""
        if self.reason is not None:
            return f"none: {self.reason}"
        return f"{self.agreement:.2%} of {self.samples:,} test samples get the model's class"


class PageProgram(PageProgramRecord):
    """A model as a program for the page."""

    #: Of a sample, `[channels, height, width]`.
    shape: tuple[int, ...] = ()
    #: In order: each has a kind, names of inputs, of an output, and its shape; weights are base64 of int8 or float32.
    operations: Annotated[tuple[dict[str, JsonValue], ...], Field(exclude_if=lambda operations: not operations)] = ()

    @property
    def record(self) -> PageProgramRecord:
        """The program without its operations."""
        return PageProgramRecord(reason=self.reason, samples=self.samples, agreement=self.agreement)


def is_small_image(shape: tuple[int, ...]) -> bool:
    """Whether a sample's shape is that of an image which a page can take."""
    return len(shape) == 3 and shape[0] in CHANNELS and max(shape[1:]) <= LONGEST_SIDE
