"""Given data: inputs, targets and names that a user gave, as arrays, once it is clear that they are such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.text import encodable
from distill_queue.worker.data import records

#: Number of a class that no data set has.
LARGEST_TARGET = 2.0**53


def inputs_of(whose: str, given: Any) -> Array:
    """The inputs `[samples, *shape]` that were given; of a dictionary, records `[samples]` of its arrays.

    Raises:
        InvalidSpec: the samples are of several shapes.

    """
    if isinstance(given, Mapping):
        arrays = {name: inputs_of(f"{whose} {name}", values) for name, values in given.items()}
        return records.laid_together(f"{whose} inputs", arrays)
    try:
        inputs: Array = np.asarray(given)
        several = inputs.dtype.kind == "O"
    except (ValueError, TypeError):  # NumPy's words of samples that differ, and torch's.
        several = True
    shapes = [np.shape(each) for each in given] if several else []
    other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        inputs = np.asarray(given)
        if not inputs.ndim:
            raise InvalidSpec(f"{whose} inputs must be [samples, ...], not a single value of {inputs.dtype}")
        return inputs
    first, second = list(shapes[0]), list(shapes[other])
    raise InvalidSpec(
        f"{whose} inputs have {len(set(shapes)):,} shapes: sample 0 is {first}, sample {other:,} is {second}: "
        "make them one, as by Pillow's image.convert('RGB').resize((32, 32)); text and series are padded"
    )


def targets_of(whose: str, split: str, given: Any) -> npt.NDArray[np.int64]:
    """The targets `[samples]` that were given; of training samples, -1 or None is no label.

    Raises:
        InvalidSpec: they are something else, or there are none; the message says what, and in which row.

    """
    unlabelled = split == "train"
    targets = np.asarray(given)
    if unlabelled and targets.dtype.kind == "O" and targets.ndim == 1:
        targets = np.asarray([-1 if each is None else each for each in targets])
    wanted = f"{whose} targets must be whole numbers [samples] from 0 on"
    wanted += ", or -1 where a sample has no label" if unlabelled else ""
    what = f"{targets.dtype} {list(targets.shape)}"
    if targets.dtype.kind not in "uif" or targets.ndim != 1 or not len(targets):
        raise InvalidSpec(f"{wanted}, not {what}{_way_to_targets(targets)}")
    values = targets.astype(np.float64)  # Of any type, as the smallest hold neither -1 nor the largest label.
    right = (values == np.floor(values)) & (values >= (-1 if unlabelled else 0)) & (values <= LARGEST_TARGET)
    if not right.all():
        row = int(right.argmin())
        raise InvalidSpec(f"{wanted}: row {row:,} is {targets[row]} (of {what})")
    if unlabelled and not (targets >= 0).any():
        raise InvalidSpec(f"{whose} targets are all -1: a classification needs samples with a label")
    return targets.astype(np.int64)


def _way_to_targets(targets: Array) -> str:
    """How targets in another form become whole numbers, as the end of a sentence; empty where that is not clear."""
    if targets.ndim == 2 and targets.dtype.kind in "uifb" and targets.size:
        return ": of one row a sample take .argmax(1)" if targets.shape[1] > 1 else ": of one column take .ravel()"
    if targets.ndim == 1 and targets.dtype.kind == "b" and targets.size:
        return ": take .astype(int)"
    if targets.ndim == 1 and targets.dtype.kind in "US" and targets.size:
        return ": class_names, targets = np.unique(targets, return_inverse=True) makes numbers of names"
    return ""


def names_of(whose: str, given: Iterable[Any], train_targets: Array, test_targets: Array) -> tuple[str, ...]:
    """The classes' names that were given; without any, the numbers up to the largest target.

    Raises:
        InvalidSpec: a target is so large that it can be no class.

    """
    # A folder's name may be of bytes that are no UTF-8.
    names = tuple(encodable(name) if isinstance(name, str) else name for name in given)
    if not names:
        classes = int(max(train_targets.max(), test_targets.max())) + 1
        if classes > len(train_targets):
            raise InvalidSpec(f"{whose}: a target is {classes - 1:,}, with {len(train_targets):,} samples")
        if classes == 1:
            raise InvalidSpec(f"{whose}: all targets are 0: a classification needs two classes or more")
        names = tuple(map(str, range(classes)))
    return names
