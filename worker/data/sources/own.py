"""The user's own data: a callable that returns arrays, called twice, as it must return the same ones each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data import one_by_one
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.given import inputs_of, names_of, targets_of
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.split import as_bytes, pieces
from distill_queue.worker.machine import plugins


def read(dataset: NamedDatasetSpec, reading: Reading) -> Arrays:
    """The arrays of the user's own callable, which must return the same ones twice; they are held once at a time."""
    first = _digests(_read_once(dataset, reading, "first"))
    arrays = _read_once(dataset, reading, "second")
    if differ := [name for name, digest in _digests(arrays).items() if digest != first[name]]:
        raise InvalidSpec(
            f"{dataset.name}: returns other {' and '.join(differ)} each time that it is called: seed what is random, "
            "sort what a folder lists, and use neither the time nor what an earlier call has left"
        )
    train, test = (arrays.train_inputs, arrays.train_targets), (arrays.test_inputs, arrays.test_targets)
    return Arrays.of_own(dataset.name, train, test, arrays.class_names)


def _digests(arrays: Arrays) -> dict[str, str]:
    """A hash of each array with its type and shape, read piece by piece, and of the names; by their name in words."""
    digests = {"class_names": repr(arrays.class_names)}
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        array: Array = getattr(arrays, name)
        digest = xxhash.xxh3_128(f"{array.dtype.str} {array.shape}".encode())
        for rows in pieces(array):
            digest.update(np.ascontiguousarray(as_bytes(array[rows])).data)
        digests[name.replace("_", " ")] = digest.hexdigest()
    return digests


def _read_once(dataset: NamedDatasetSpec, reading: Reading, call: str) -> Arrays:
    """The arrays that a callable returns when it is called once, its unseeded random numbers from seed 0.

    Raises:
        InvalidSpec: it cannot be used, or returns something else.

    """
    function = plugins.load(dataset.name, reading.runtime.plugins)
    with plugins.called(dataset.name), plugins.seeded(0):
        given = function(**as_arguments(dataset.options))
    if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
        raise InvalidSpec(f"{dataset.name}: must return a dictionary with train=(inputs, targets) and test=(…)")
    with plugins.called(dataset.name), plugins.seeded(0):
        (train_inputs, train_targets), (test_inputs, test_targets) = (
            _split(f"{dataset.name}: {split}", split, given[split], reading.scratch / f"{call}-{split}", reading)
            for split in ("train", "test")
        )
        names = names_of(dataset.name, given.get("class_names") or (), train_targets, test_targets)
    return Arrays(train_inputs, train_targets, test_inputs, test_targets, names).checked(dataset.name)


def _split(whose: str, split: str, given: Any, path: Path, reading: Reading) -> tuple[Array, Array]:
    """Inputs and targets of a split, as arrays or one sample after the other, which go to a file."""
    if one_by_one.is_one_by_one(given):
        given = one_by_one.read(whose, given, path, reading.report)
    elif not (isinstance(given, tuple | list) and len(given) == 2):
        raise InvalidSpec(f"{whose}: must be (inputs, targets), a Dataset or a generator, not {_described(given)}")
    inputs, targets = given
    return inputs_of(whose, inputs), targets_of(whose, split, targets)


def _described(given: Any) -> str:
    """What was given in the place of a pair, in words."""
    if isinstance(given, tuple | list):
        return f"{len(given):,} things"
    return type(given).__name__
