"""What a teacher's soft labels say, beside the data's own labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.numerics import softmax


class LabelStatistics(BaseModel):
    """Means over all views of all samples; the first three only over samples that have a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Share of the samples on which the teacher's first class is the label.
    accuracy: float
    #: Mean probability of the teacher's first class, at temperature 1.
    confidence: float
    #: As `Calibration.error`.
    calibration_error: float
    #: Mean entropy of the probabilities at temperature 1, in nats.
    entropy: float

    @classmethod
    def of(cls, labels: SoftLabels, targets: npt.NDArray[np.int64]) -> LabelStatistics:
        """The statistics of a cache beside the data's labels `[samples]`, -1 where there is none; block by block."""
        header = labels.header
        calibration, entropy = Calibration.none(), 0.0
        for block in range(header.blocks):
            _, rows = header.rows_of(block)
            probabilities = softmax(header.encoding.decode(labels.block(block), header.classes))
            entropy -= float((probabilities * np.log(np.maximum(probabilities, 1e-38))).sum(dtype=np.float64))
            wanted = targets[rows]
            labelled = wanted >= 0
            hits = probabilities.argmax(axis=1)[labelled] == wanted[labelled]
            calibration += Calibration.of(probabilities.max(axis=1)[labelled], hits)
        return cls(
            accuracy=calibration.accuracy,
            confidence=calibration.confidence,
            calibration_error=calibration.error,
            entropy=entropy / (header.views * header.samples),
        )


def better_than_chance(accuracy: float, targets: npt.NDArray[np.int64]) -> bool:
    """Whether labels that are right so often can be of these samples, in this order.

    Labels in another order are right no more often than the most frequent class is, give or take three standard
    deviations.
    """
    labelled = targets[targets >= 0]
    if not len(labelled):
        return True
    largest = float(np.bincount(labelled).max() / len(labelled))
    return accuracy > largest + 3.0 * (largest * (1.0 - largest) / len(labelled)) ** 0.5
