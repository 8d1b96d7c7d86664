"""Predictions: the class that a model gives each test sample, and its confidence; two files of its evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.files.array_file import read_array, write_array
from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.class_scores import confusion_of

PREDICTIONS, CONFIDENCES = "predictions.npy", "confidences.npy"

Targets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The class that a model gives each sample, and its confidence, in the data set's order."""

    #: `[samples]`, of the smallest unsigned type.
    classes: npt.NDArray[Any]
    #: `[samples]`: the softmax probability of that class.
    confidences: npt.NDArray[np.float32]

    @classmethod
    def read(cls, classes: Path, confidences: Path) -> Self:
        """Read the predictions in two files.

        Raises:
            ArtifactDamaged: a file holds no array.
            StoreUnavailable: a file cannot be read.

        """
        return cls(read_array(classes), read_array(confidences))

    def write(self, folder: Path) -> None:
        """Write the two files into a folder."""
        write_array(folder / PREDICTIONS, self.classes)
        write_array(folder / CONFIDENCES, self.confidences)

    def __len__(self) -> int:
        return len(self.classes)

    def hits(self, targets: Targets) -> npt.NDArray[np.bool_]:
        """Whether each sample is given its own class, `[samples]`."""
        return self.classes == targets

    def calibration(self, targets: Targets) -> Calibration:
        """Whether the model is right as often as it is sure."""
        return Calibration.of(self.confidences, self.hits(targets))

    def confusion(self, targets: Targets, classes: int) -> npt.NDArray[np.int64]:
        """How many samples of each class (row) are given each class (column), `[classes, classes]`."""
        return confusion_of(targets, self.classes.astype(np.int64), classes)

    def unlike(self, other: Predictions) -> npt.NDArray[np.int64]:
        """The samples on which two models disagree, sorted by the lower of the two confidences, highest first."""
        different = np.flatnonzero(self.classes != other.classes)
        sureness = np.minimum(self.confidences, other.confidences)[different]
        return different[np.argsort(-sureness, kind="stable")]
