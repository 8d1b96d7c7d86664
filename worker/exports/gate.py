"""The gate: what a file's answers on the test set must be like, compared with the trained student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import StageFailed

#: Most that a logit of a file in floating point may differ, as a share of how far a class' logits are apart.
MOST_DIFFERENCE = 1e-5
#: And of the logit itself: what float32 rounds away, some times over. It counts where a class has -10,000 always.
ROUNDING = 1e-6
#: As `MOST_DIFFERENCE`, for a sample alone and among others, where activations are of 8 bits.
MOST_CHANGE_OF_INTEGERS = 0.05

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
    #: The difference that is furthest beyond what is allowed in floating point, as a multiple of that.
    excess: float

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
            excess=_excess(logits, of_model, MOST_DIFFERENCE),
        )

    def require_same(self, name: str) -> None:
        """Refuse a file in floating point whose answers are not the student's.

        Where two of a sample's logits are nearer to each other than what is allowed, its class may change.

        Raises:
            StageFailed: a logit differs by more than `MOST_DIFFERENCE` of how far its class' logits are apart.

        """
        if self.excess > 1:
            raise StageFailed(
                f"{name}: the exported file answers otherwise than the student: a logit differs by "
                f"{self.difference:.3g}, {self.excess:,.1f} times what is allowed (1e-5 of the logits' range), and "
                f"{self.disagreeing:,} of {self.samples:,} test samples get another class"
            )

    def require_accurate(self, name: str, tolerance: float, advice: str = "") -> None:
        """Refuse a file of integers that lost more accuracy than so many points; `advice` ends the message.

        Raises:
            StageFailed: it did.

        """
        if not self.is_accurate(tolerance):
            raise StageFailed(
                f"{name}: the exported file has {self.accuracy:.2%} on {self.samples:,} test samples, the student "
                f"{self.model_accuracy:.2%}: {self.lost:.2f} points or {self.fewer:,} samples are lost, and "
                f"export.tolerance is {tolerance:g}; {self.agreement:.2%} of the answers agree{advice}"
            )

    def is_accurate(self, tolerance: float) -> bool:
        """Whether a file of integers lost no more accuracy than so many points."""
        return self.lost <= tolerance

    @property
    def fewer(self) -> int:
        """How many samples fewer the file gets right than the student."""
        return round(self.samples * (self.model_accuracy - self.accuracy))

    @property
    def lost(self) -> float:
        """Points of accuracy that the file has less than the student."""
        return 100 * self.fewer / self.samples

    @property
    def disagreeing(self) -> int:
        """How many samples get another class."""
        return round(self.samples * (1.0 - self.agreement))


def require_each_alone(name: str, together: Logits, alone: Logits, *, integers: bool = False) -> None:
    """Refuse a file that answers a sample otherwise when other samples are with it.

    Args:
        name: the export's, for the message.
        together: logits of some samples `[samples, classes]`, answered in large batches.
        alone: of the same samples, each answered in a batch of its own.
        integers: whether activations are rounded to 8 bits, so that a last bit changes more.

    Raises:
        StageFailed: it does.

    """
    _require_telling("the exported file", together)
    if (
        not np.isfinite(alone).all()
        or _excess(alone, together, MOST_CHANGE_OF_INTEGERS if integers else MOST_DIFFERENCE) > 1
    ):
        raise StageFailed(
            f"{name}: the exported file answers a sample otherwise when it is alone than among others: the model "
            "computes something over the whole batch, such as a mean or a maximum without a dimension, or .item(); it "
            "must treat each sample by itself"
        )


def _excess(logits: Logits, reference: Logits, share: float) -> float:
    """The largest difference as a multiple of what is allowed: a share of the range, and the rounding of the logit."""
    wanted = reference.astype(np.float64)
    allowed = share * _spread(wanted) + ROUNDING * np.abs(wanted)
    difference = np.abs(logits - wanted)
    return float(np.divide(difference, allowed, out=np.where(difference > 0, np.inf, 0.0), where=allowed > 0).max())


def _spread(logits: npt.NDArray[np.float64]) -> float:
    """How far the logits of one class are apart, most of all classes; of one sample, how far all are.

    The range of all logits would tell less: it is large where a class has a constant, such as -10,000.
    """
    return float(np.ptp(logits, axis=0 if len(logits) > 1 else 1).max())


def _require_telling(whose: str, logits: Logits) -> None:
    if not np.isfinite(logits).all():
        row = int((~np.isfinite(logits).all(axis=1)).argmax())
        raise StageFailed(f"{whose} answers test sample {row:,} with logits that are not finite numbers")
    wide = logits.astype(np.float64)
    if len(logits) > 1 and (np.ptp(wide, axis=0) <= ROUNDING * np.abs(wide).max(axis=0)).all():
        raise StageFailed(
            f"{whose} answers every test sample with the same logits: there is nothing to export; a training that "
            "diverged does this, or batch norms that saw too few steps for eval mode"
        )
