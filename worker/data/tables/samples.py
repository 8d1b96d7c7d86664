"""Samples: the rows of a table for training, validation and testing, with their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.tables.labels import Targets
from distill_queue.worker.data.tables.parts import WHOLE
from distill_queue.worker.data.tables.rows import Rows

#: The parts that are training samples, in the order in which they are stored.
TRAINING = ("train", "validation", "unlabelled")


@dataclass(frozen=True, slots=True)
class Samples:
    """The rows of each part, `train` and `test` among them, and the number `[rows]` of their classes."""

    parts: dict[str, Rows]
    targets: dict[str, Targets]

    @classmethod
    def of(cls, parts: Mapping[str, Rows], targets: Mapping[str, Targets]) -> Self:
        """Those of a table's parts; a single one is split, the same way every time."""
        if WHOLE not in parts:
            return cls(dict(parts), dict(targets))
        rows, numbers = parts[WHOLE], targets[WHOLE]
        split = Arrays.stratified(np.arange(len(rows)), numbers, ())
        if not len(split.test_inputs):
            raise InvalidSpec(f"{rows.called}: too few rows of each class to keep a fifth for testing")
        others = [part for part in parts if part != WHOLE]
        return cls(
            {"train": rows.chosen(split.train_inputs), "test": rows.chosen(split.test_inputs)}
            | {part: parts[part] for part in others},
            {"train": split.train_targets, "test": split.test_targets} | {part: targets[part] for part in others},
        )

    def arrays(self, called: str, inputs: Mapping[str, Array], class_names: tuple[str, ...]) -> Arrays:
        """The samples as arrays, from the inputs of each part.

        Raises:
            InvalidSpec: as for `Arrays.of_own`.

        """
        training = [part for part in TRAINING if part in self.parts]
        train = tuple(np.concatenate([each[part] for part in training]) for each in (inputs, self.targets))
        held_out = None
        if "validation" in self.parts:
            held_out = len(self.parts["train"]) + np.arange(len(self.parts["validation"]))
        test = inputs["test"], self.targets["test"]
        return Arrays.of_own(called, (train[0], train[1]), test, class_names, held_out)
