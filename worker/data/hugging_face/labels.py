"""Labels: the classes of a data set's rows, as its features name them or as they stand in a column."""

from __future__ import annotations

from collections.abc import Mapping

import datasets
import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.worker.data.hugging_face.splits import Split
from distill_queue.worker.data.tables import labels
from distill_queue.worker.data.tables.labels import Targets


def labels_of(splits: Mapping[str, Split], target: str) -> tuple[tuple[str, ...], dict[str, Targets]]:
    """The names of the classes and the number `[rows]` of each part's class, -1 where it has none.

    A `ClassLabel` says the names and their order; otherwise the values are sorted, as in a table.

    Raises:
        InvalidSpec: the column is missing or holds no classes, or a test or validation row has no label.

    """
    labelled = {part: split for part, split in splits.items() if part != "unlabelled"}
    first, *others = (split.feature(target, "target") for split in labelled.values())
    if not isinstance(first, datasets.ClassLabel):
        names, targets = labels.labels_of({part: split.read(target) for part, split in labelled.items()}, target)
    elif any(each != first for each in others):
        raise InvalidSpec(f"{splits['test'].called}: '{target}' has other classes than in train")
    else:
        names = tuple(map(str, first.names))
        targets = {part: _numbers(split, target, len(names)) for part, split in labelled.items()}
    for part in ("test", "validation"):
        if part in targets and (missing := targets[part] < 0).any():
            split, row = splits[part], int(missing.argmax())
            raise InvalidSpec(
                f"{split.of}, {split.at(row)}: has no '{target}' ({int(missing.sum()):,} of {len(missing):,} rows have "
                "none): only training rows may be without; name another split, as splits: {test: validation}"
            )
    if "unlabelled" in splits:
        targets["unlabelled"] = np.full(len(splits["unlabelled"]), -1)
    return names, targets


def _numbers(split: Split, target: str, classes: int) -> Targets:
    """The numbers of a `ClassLabel`, -1 where it is missing.

    Raises:
        InvalidSpec: one is beyond the classes.

    """
    numbers: Targets = split.read(target).table[target].fill_null(-1).to_numpy().astype(np.int64)
    wrong = (numbers >= classes) | (numbers < -1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidSpec(f"{split.of}, {split.at(row)}: '{target}' is {numbers[row]}, and there are {classes} classes")
    return numbers
