"""The user's own data: a callable that returns arrays, called twice, as it must return the same ones each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.text import encodable
from distill_queue.worker.data import checks as data_checks
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.split import pieces
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.runtime import Runtime

#: Number of a class that no data set has.
LARGEST_TARGET = 2.0**53


def read(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays of the user's own callable, which must return the same ones twice; they are held once at a time."""
    first = _digests(_read_once(dataset, runtime))
    arrays = _read_once(dataset, runtime)
    if differ := [name for name, digest in _digests(arrays).items() if digest != first[name]]:
        raise InvalidSpec(
            f"{dataset.name}: returns other {' and '.join(differ)} each time that it is called: seed what is random, "
            "sort what a folder lists, and use neither the time nor what an earlier call has left"
        )
    splits = arrays.train_inputs, arrays.train_targets, arrays.test_inputs, arrays.test_targets
    return replace(arrays, warnings=tuple(data_checks.check(*splits, arrays.class_names)), own=True)


def _digests(arrays: Arrays) -> dict[str, str]:
    """A hash of each array with its type and shape, read piece by piece, and of the names; by their name in words."""
    digests = {"class_names": repr(arrays.class_names)}
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        array: Array = getattr(arrays, name)
        digest = xxhash.xxh3_128(f"{array.dtype.str} {array.shape}".encode())
        for rows in pieces(array):
            digest.update(np.ascontiguousarray(array[rows]).data)
        digests[name.replace("_", " ")] = digest.hexdigest()
    return digests


def _read_once(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays that a callable returns when it is called once, its unseeded random numbers from seed 0.

    Raises:
        InvalidSpec: it cannot be used, or returns something else.

    """
    function = plugins.load(dataset.name, runtime.plugins)
    with plugins.called(dataset.name), plugins.seeded(0):
        given = function(**as_arguments(dataset.options))
    if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
        raise InvalidSpec(f"{dataset.name}: must return a dictionary with train=(inputs, targets) and test=(…)")
    with plugins.called(dataset.name):
        (train_inputs, train_targets), (test_inputs, test_targets) = (
            (_own_inputs(f"{dataset.name}: {split}", inputs), _own_targets(f"{dataset.name}: {split}", split, targets))
            for split in ("train", "test")
            for inputs, targets in (given[split],)
        )
        # A folder's name may be of bytes that are no UTF-8.
        names = tuple(encodable(name) if isinstance(name, str) else name for name in given.get("class_names") or ())
    if not names:
        classes = int(max(train_targets.max(), test_targets.max())) + 1
        if classes > len(train_targets):
            raise InvalidSpec(f"{dataset.name}: a target is {classes - 1:,}, with {len(train_targets):,} samples")
        names = tuple(map(str, range(classes)))
    return Arrays(train_inputs, train_targets, test_inputs, test_targets, names).checked(dataset.name)


def _own_inputs(whose: str, given: Any) -> Array:
    """The inputs `[samples, *shape]` that the user's callable returned.

    Raises:
        InvalidSpec: the samples are of several shapes.

    """
    try:
        inputs: Array = np.asarray(given)
        several = inputs.dtype.kind == "O"
    except (ValueError, TypeError):  # NumPy's words of samples that differ, and torch's.
        several = True
    shapes = [np.shape(each) for each in given] if several else []
    other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        return np.asarray(given)
    first, second = list(shapes[0]), list(shapes[other])
    raise InvalidSpec(
        f"{whose} inputs have {len(set(shapes)):,} shapes: sample 0 is {first}, sample {other:,} is {second}: "
        "make them one, as by Pillow's image.convert('RGB').resize((32, 32)); text and series are padded"
    )


def _own_targets(whose: str, split: str, given: Any) -> npt.NDArray[np.int64]:
    """The targets `[samples]` that the user's callable returned; of training samples, -1 or None is no label.

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
        rows = targets.ndim == 2 and targets.shape[1] > 1 and targets.dtype.kind in "uifb"
        raise InvalidSpec(f"{wanted}, not {what}{': of one row a sample take .argmax(1)' if rows else ''}")
    values = targets.astype(np.float64)  # Of any type, as the smallest hold neither -1 nor the largest label.
    right = (values == np.floor(values)) & (values >= (-1 if unlabelled else 0)) & (values <= LARGEST_TARGET)
    if not right.all():
        row = int(right.argmin())
        raise InvalidSpec(f"{wanted}: row {row:,} is {targets[row]} (of {what})")
    if unlabelled and not (targets >= 0).any():
        raise InvalidSpec(f"{whose} targets are all -1: a classification needs samples with a label")
    return targets.astype(np.int64)
