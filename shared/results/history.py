"""The history of a training, epoch by epoch: a file beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from distill_queue.shared.results.measure import Measure

HISTORY = "history.json"


class History(BaseModel):
    """Loss and accuracies of each epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Mean loss over the epoch's batches.
    losses: tuple[float, ...]
    train_accuracies: tuple[float, ...]
    #: On the samples that are held out of the training data; empty where there are none.
    held_out_accuracies: tuple[float, ...]
    #: What epochs were compared by on held-out samples, where that is not the accuracy, and its values.
    best_by: Annotated[Measure | None, Field(exclude_if=lambda measure: measure is None)] = None
    held_out_measures: Annotated[tuple[float, ...], Field(exclude_if=lambda values: not values)] = ()

    @classmethod
    def of(
        cls,
        epochs: Sequence[tuple[float, float, float | None]],
        best_by: Measure | None = None,
        measures: Sequence[float] = (),
    ) -> Self:
        """The history of epochs, each as its loss, training accuracy and held-out accuracy; and what compares them."""
        return cls(
            losses=tuple(loss for loss, _, _ in epochs),
            train_accuracies=tuple(accuracy for _, accuracy, _ in epochs),
            held_out_accuracies=tuple(held_out for _, _, held_out in epochs if held_out is not None),
            best_by=best_by,
            held_out_measures=tuple(measures),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the history in a file."""
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write the history into a file; the same history gives the same bytes."""
        path.write_text(self.model_dump_json(), encoding="utf-8")


def history_of(seed: int) -> str:
    """The name of the file with the history of a model that was chosen, trained with a seed."""
    return f"history-{seed}.json"
