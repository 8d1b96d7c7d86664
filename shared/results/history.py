"""The history of a training, epoch by epoch: a file beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

HISTORY = "history.json"


class History(BaseModel):
    """What each epoch came to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Mean loss over the epoch's batches.
    losses: tuple[float, ...]
    train_accuracies: tuple[float, ...]
    #: On the samples that are held out of the training data; empty where there are none.
    held_out_accuracies: tuple[float, ...]

    @classmethod
    def of(cls, epochs: Sequence[tuple[float, float, float | None]]) -> Self:
        """That of each epoch's loss and accuracies."""
        return cls(
            losses=tuple(loss for loss, _, _ in epochs),
            train_accuracies=tuple(accuracy for _, accuracy, _ in epochs),
            held_out_accuracies=tuple(held_out for _, _, held_out in epochs if held_out is not None),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """That in a file."""
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write it into a file; the same history gives the same bytes."""
        path.write_text(self.model_dump_json(), encoding="utf-8")


def history_of(seed: int) -> str:
    """The file of a chosen model."""
    return f"history-{seed}.json"
