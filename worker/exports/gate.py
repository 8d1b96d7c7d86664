"""The gate: what a file's answers on the test set must be like, compared with the trained student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import StageFailed

#: Most that a logit of a file in floating point may differ, as a share of the range of all logits.
MOST_DIFFERENCE = 1e-5
#: Points that a difference of two accuracies may be off by.
ROUNDING = 1e-9

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of a file beside those of the student that it was made from, on the same samples."""

    samples: int
    accuracy: float
    model_accuracy: float
    agreement: float
    #: The largest difference of a logit, and the largest of the student's logits less the smallest.
    difference: float
    logits_range: float

    @classmethod
    def of(cls, logits: Logits, of_model: Logits, targets: npt.NDArray[np.int64]) -> Self:
        """Compare logits `[samples, classes]` of the file and of the student; `targets` are `[samples]`.

        Raises:
            StageFailed: the logits say nothing: some are no numbers, or all samples have the same.

        """
        for whose, each in (("the student", of_model), ("the exported file", logits)):
            _require_telling(whose, each)
        chosen, of_student = logits.argmax(1), of_model.argmax(1)
        return cls(
            samples=len(targets),
            accuracy=float((chosen == targets).mean()),
            model_accuracy=float((of_student == targets).mean()),
            agreement=float((chosen == of_student).mean()),
            difference=float(np.abs(logits - of_model).max()),
            logits_range=float(of_model.max() - of_model.min()),
        )

    def require_same(self, name: str) -> None:
        """Refuse a file in floating point whose answers are not the student's.

        Where two of a sample's logits are nearer to each other than what is allowed, its class may change.

        Raises:
            StageFailed: a logit differs by more than `MOST_DIFFERENCE` of their range.

        """
        allowed = MOST_DIFFERENCE * self.logits_range
        if self.difference > allowed:
            raise StageFailed(
                f"{name}: the exported file answers otherwise than the student: a logit differs by "
                f"{self.difference:.3g}, where {allowed:.3g} is allowed (1e-5 of their range), and "
                f"{self.disagreeing:,} of {self.samples:,} test samples get another class"
            )

    def require_accurate(self, name: str, tolerance: float, advice: str = "") -> None:
        """Refuse a file of integers that lost more accuracy than so many points; `advice` ends the message.

        Raises:
            StageFailed: it did.

        """
        if not self.is_accurate(tolerance):
            fewer = round(self.samples * (self.model_accuracy - self.accuracy))
            raise StageFailed(
                f"{name}: the exported file has {self.accuracy:.2%} on {self.samples:,} test samples, the student "
                f"{self.model_accuracy:.2%}: {self.lost:.2f} points or {fewer:,} samples are lost, and "
                f"export.tolerance is {tolerance:g}; {self.agreement:.2%} of the answers agree{advice}"
            )

    def is_accurate(self, tolerance: float) -> bool:
        """Whether a file of integers lost no more accuracy than so many points."""
        return self.lost <= tolerance + ROUNDING

    @property
    def lost(self) -> float:
        """Points of accuracy that the file has less than the student."""
        return 100 * (self.model_accuracy - self.accuracy)

    @property
    def disagreeing(self) -> int:
        """How many samples get another class."""
        return round(self.samples * (1.0 - self.agreement))


def _require_telling(whose: str, logits: Logits) -> None:
    if not np.isfinite(logits).all():
        row = int((~np.isfinite(logits).all(axis=1)).argmax())
        raise StageFailed(f"{whose} answers test sample {row:,} with logits that are not finite numbers")
    if len(logits) > 1 and (logits == logits[0]).all():
        raise StageFailed(f"{whose} answers every test sample with the same logits: there is nothing to export")
