"""Calibration: whether a model is right as often as it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

#: Bins of confidence, all equally wide.
BINS = 15


@dataclass(frozen=True, slots=True)
class Calibration:
    """Per bin of confidence, `[bins]`: the number of samples, how many the model got right, the sum of confidences."""

    samples: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]
    #: The sum over the bin's samples.
    confidences: npt.NDArray[np.float64]

    @classmethod
    def of(cls, confidences: npt.NDArray[np.float32], hits: npt.NDArray[np.bool_]) -> Self:
        """The calibration of samples with these confidences and hits, both `[samples]`."""
        bins = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
        samples, right, sums = (
            np.bincount(bins, weights, BINS).astype(np.float64) for weights in (np.ones(len(bins)), hits, confidences)
        )
        return cls(samples, right, sums)

    @classmethod
    def none(cls) -> Self:
        """The calibration of no samples."""
        return cls(*np.zeros((3, BINS)))

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.samples + other.samples, self.hits + other.hits, self.confidences + other.confidences)

    @property
    def accuracy(self) -> float:
        """Share of the samples that the model got right."""
        return self._mean(self.hits)

    @property
    def confidence(self) -> float:
        """Mean confidence."""
        return self._mean(self.confidences)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): mean distance of confidence from accuracy, bin by bin."""
        return self._mean(np.abs(self.hits - self.confidences))

    def _mean(self, sums: npt.NDArray[Any]) -> float:
        return float(sums.sum() / max(self.samples.sum(), 1.0))
