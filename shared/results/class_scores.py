"""Class scores: how well a model tells each class, and means over the classes that do not mind how large each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

#: How many times as many samples as the smallest class the largest one has, where classes are called imbalanced.
IMBALANCE = 3


def imbalanced(samples: npt.NDArray[np.int64]) -> bool:
    """Whether classes of so many samples `[classes]` are imbalanced; those without samples are left out."""
    there = samples[samples > 0]
    return bool(len(there) and there.max() >= IMBALANCE * there.min())


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision, recall and F1 of each class, `[classes]`, as scikit-learn defines them; 0 where it divides by 0.

    Classes without samples are left out of the means, where scikit-learn counts those that are given to some sample.
    """

    #: How many samples are of the class, which scikit-learn calls support.
    samples: npt.NDArray[np.int64]
    precision: Values
    recall: Values
    f1: Values

    @classmethod
    def of(cls, confusion: npt.NDArray[np.int64]) -> Self:
        """The scores of a confusion matrix: how many samples of each class (row) are given each class (column)."""
        right, samples, given = np.diag(confusion), confusion.sum(1), confusion.sum(0)
        return cls(samples, _shares(right, given), _shares(right, samples), _shares(2 * right, samples + given))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have samples."""
        return self._mean(self.recall)

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have samples."""
        return self._mean(self.f1)

    def _mean(self, values: Values) -> float:
        there = self.samples > 0
        return float(values[there].mean()) if there.any() else 0.0


def confusion_of(targets: npt.NDArray[np.int64], given: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """How many samples of each class (row) are given each class (column), `[classes, classes]`.

    Args:
        targets: the samples' own classes, `[samples]`.
        given: the classes that a model gives them, `[samples]`.
        classes: how many there are.

    """
    return np.bincount(targets * classes + given, minlength=classes * classes).reshape(classes, classes)


def _shares(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Values:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
