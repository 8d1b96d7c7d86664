"""Data checks: what of the user's own data is allowed, and seldom meant."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.shared.line import listed, shortened
from distill_queue.shared.results.records import DataWarning
from distill_queue.worker.data.split import as_bytes, numbers_of

Array = npt.NDArray[Any]

#: Things that are named one by one.
MOST_NAMED = 5
#: Characters of the name of a class.
LONGEST_NAME = 40
#: Most channels that an image has.
MOST_CHANNELS = 4
#: Chance below which what is missing from a test set is not missing by chance.
UNLIKELY = 1e-6
#: Share of the test samples above which it matters that training has them too: of MNIST, CIFAR and their like, a few
#: in ten thousand are there twice.
SHARED = 0.01
#: Numbers in a sample below which two of them may well be equal by chance, as rows of a table of categories are.
FEW_NUMBERS = 32
#: Share of the middle class's training samples below which a class is nearly empty.
NEARLY_EMPTY = 0.02
#: Standard errors that make a difference clear: of 20,000 healthy sets none has as many.
CLEAR = 6.0


def check(
    train_inputs: Array, train_targets: Array, test_inputs: Array, test_targets: Array, class_names: Sequence[str]
) -> Iterator[DataWarning]:
    """What is to be said of inputs `[samples, *shape]` and labels `[samples]`, -1 for none, of two splits."""
    train, test = (
        np.bincount(targets[targets >= 0], minlength=len(class_names)) for targets in (train_targets, test_targets)
    )
    yield from one_based_labels(train, test)
    yield from unused_classes(train, test, class_names)
    yield from untested_classes(train, test, class_names)
    yield from small_classes(train, class_names)
    yield from channels_last(train_inputs)
    yield from test_samples_in_training(train_inputs, test_inputs)


def one_based_labels(train: Array, test: Array) -> Iterator[DataWarning]:
    """Labels that begin with 1, by how many samples `[classes]` of each class there are."""
    if _begin_with_1(train, test):
        text = (
            "the smallest label is 1 and class 0 has no sample: labels count from 0, so there is one class too many: "
            "take 1 from each label"
        )
        yield DataWarning(kind="one_based_labels", text=text)


def unused_classes(train: Array, test: Array, class_names: Sequence[str]) -> Iterator[DataWarning]:
    """Classes without a training sample, as where labels skip numbers, and which of them are tested all the same."""
    unused = np.flatnonzero(train == 0)
    if _begin_with_1(train, test):
        unused = unused[1:]
    if not len(unused):
        return
    text = (
        f"{_of_classes(unused, class_names)} no training sample: labels are to count from 0 and to leave no number out"
    )
    if len(tested := unused[test[unused] > 0]):
        samples = int(test[tested].sum())
        text += f"; {samples:,} test samples are of {_named(tested, class_names)}, and no model can be right on these"
    yield DataWarning(kind="unused_classes", text=text)


def untested_classes(train: Array, test: Array, class_names: Sequence[str]) -> Iterator[DataWarning]:
    """Classes that are trained and not tested, if chance would not leave out one that is so frequent."""
    samples = int(test.sum())
    shares = train / train.sum()
    by_chance = np.exp(samples * np.log1p(-np.minimum(shares, 1.0 - 1e-12))) * len(train)
    missing = np.flatnonzero((train > 0) & (test == 0) & (by_chance < UNLIKELY))
    if len(missing):
        text = (
            f"{_of_classes(missing, class_names)} training samples and no test sample, of {samples:,}: "
            "nothing will be known of how well they are told apart"
        )
        yield DataWarning(kind="untested_classes", text=text)


def small_classes(train: Array, class_names: Sequence[str]) -> Iterator[DataWarning]:
    """Classes with a single training sample, or with hardly any where most classes have many."""
    small = np.flatnonzero(train == 1)
    if len(small):
        text = f"{_of_classes(small, class_names)} a single training sample"
        yield DataWarning(kind="small_classes", text=text)
    middle = float(np.median(train))
    nearly_empty = np.flatnonzero((train > 1) & (train < NEARLY_EMPTY * middle))
    if len(nearly_empty):
        most = int(train[nearly_empty].max())
        text = f"{_of_classes(nearly_empty, class_names)} {most:,} training samples at the most, half of all classes "
        yield DataWarning(kind="small_classes", text=f"{text}{middle:,.0f} or more")


def channels_last(inputs: Array) -> Iterator[DataWarning]:
    """Samples `[height, width, channels]`, where models take the first dimension for channels; not tokens."""
    if inputs.ndim != 4 or np.issubdtype(inputs.dtype, np.signedinteger):
        return
    height, width, channels = inputs.shape[1:]
    if channels <= MOST_CHANNELS < min(height, width):
        text = (
            f"samples of shape {inputs.shape[1:]} look like images with the channels last, and their {height} rows are "
            f"taken for channels: give [samples, {channels}, {height}, {width}], as with inputs.transpose(0, 3, 1, 2)"
        )
        yield DataWarning(kind="channels_last", text=text)


def test_samples_in_training(train: Array, test: Array) -> Iterator[DataWarning]:
    """Test samples that are among the training samples, value for value.

    Where samples are a few numbers, equal ones are natural: there are to be clearly more of these test samples than of
    training samples that another training sample equals.
    """
    hashes, counts = np.unique(_hashes(train), return_counts=True)
    # Sorted: before NumPy 2.1 the table that it would choose for few hashes overflows with large ones.
    found = np.isin(_hashes(test), hashes, kind="sort")
    share, samples = float(found.mean()), int(found.sum())
    if share < SHARED or samples < 2:
        return
    if numbers_of(train) < FEW_NUMBERS:
        repeated = int(counts[counts > 1].sum())
        both = (samples + repeated) / (len(test) + len(train))
        error = math.sqrt(both * (1.0 - both) * (1.0 / len(test) + 1.0 / len(train)))
        if share - repeated / len(train) <= CLEAR * error:
            return
    text = (
        f"{samples:,} of {len(test):,} test samples ({share:.1%}) are among the training samples: what is measured on "
        "them is memory"
    )
    yield DataWarning(kind="test_samples_in_training", text=text)


def _begin_with_1(train: Array, test: Array) -> bool:
    both = train + test
    return bool(both[0] == 0 and both[1] > 0)


def _of_classes(places: Array, class_names: Sequence[str]) -> str:
    """Some of the classes as the beginning of a sentence, with its verb."""
    has = "has" if len(places) == 1 else "have"
    return f"{len(places):,} of {len(class_names):,} classes ({_named(places, class_names)}) {has}"


def _named(places: Array, class_names: Sequence[str]) -> str:
    return listed([shortened(class_names[place], LONGEST_NAME) for place in places.tolist()], MOST_NAMED)


def _hashes(inputs: Array) -> npt.NDArray[np.uint64]:
    """Hashes `[samples]` of 64 bits: two of a million by a million samples are equal by chance once in 10 million."""
    rows = as_bytes(inputs)
    digests = (hashlib.blake2b(np.ascontiguousarray(sample).data, digest_size=8).digest() for sample in rows)
    return np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64, len(inputs))
