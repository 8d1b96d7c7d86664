"""Images in a folder: a folder for each class, in folders for each split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.image_folder import ImageFolderSpec
from distill_queue.worker.data.arrays import TEST_SHARE, Arrays, first_of_each_class
from distill_queue.worker.data.images.decoding import Bad, Decoder
from distill_queue.worker.data.images.layout import Layout
from distill_queue.worker.data.images.picture import Framing
from distill_queue.worker.data.reading import Reading

#: Bad files that a message names one by one.
MOST_NAMED = 20


def read(dataset: ImageFolderSpec, reading: Reading) -> Arrays:
    """Decode the images of a folder: training samples, then held-out ones, then those without a label.

    Raises:
        InvalidSpec: the folder has no classes, or files in it are bad.
        StageFailed: they are not what was submitted.
        Unavailable: the disk does not give a file for now.

    """
    place = reading.place(dataset)
    content = reading.content(dataset)
    layout = _with_test_set(Layout.of(place, dataset.path), dataset.path)
    if dataset.validation and len(layout.validation):
        raise InvalidSpec(
            f"dataset.validation: {dataset.path} holds out the samples of a folder of its own: leave validation out"
        )
    training = layout.train + layout.validation + layout.unlabelled
    decoder = Decoder(
        place, Framing(*dataset.size, dataset.resize, dataset.channels), torch.get_num_threads(),
        reading.counting(files := len(training) + len(layout.test), "images"),
    )  # fmt: skip
    train = decoder.decode(training.paths, reading.scratch / "train")
    test = decoder.decode(layout.test.paths, reading.scratch / "test")
    skipped = _of_bad(dataset, (*train.bad, *test.bad), files)
    train_targets, test_targets = training.targets[train.good], layout.test.targets[test.good]
    learned = int(train.good[: len(layout.train)].sum())
    held_out = np.arange(learned, learned + int(train.good[len(layout.train) :][: len(layout.validation)].sum()))
    splits = (train.samples, train_targets), (test.samples, test_targets)
    arrays = Arrays.of_own(dataset.path, *splits, layout.class_names, held_out if len(held_out) else None)
    return replace(arrays, warnings=(*layout.warnings, *skipped, *arrays.warnings), content=content)


def _with_test_set(layout: Layout, called: str) -> Layout:
    """The same with a fixed part of every class kept for testing, if no folder has a test set.

    Raises:
        InvalidSpec: there are too few images for that.

    """
    if len(layout.test):
        return layout
    test = first_of_each_class(layout.train.targets, TEST_SHARE)
    if not test.any():
        raise InvalidSpec(f"{called}: no class has the three images of which one can be kept for testing")
    return replace(layout, train=layout.train.where(~test), test=layout.train.where(test))


def _of_bad(dataset: ImageFolderSpec, bad: tuple[Bad, ...], files: int) -> tuple[DataWarning, ...]:
    """The warning of files that were left out.

    Raises:
        InvalidSpec: none may be, or not so many.

    """
    if not bad:
        return ()
    named = listed(list(map(str, bad)), MOST_NAMED)
    count = f"{len(bad):,} of {files:,} files"
    if dataset.on_bad == "fail":
        raise InvalidSpec(
            f"{dataset.path}: {count} cannot be read as images; repair or remove them, or say on_bad: skip: {named}"
        )
    if len(bad) > dataset.most_bad * files:
        raise InvalidSpec(
            f"{dataset.path}: {count} cannot be read as images, more than most_bad: {dataset.most_bad:g} "
            f"allows to skip: {named}"
        )
    return (DataWarning(kind="bad_files", text=f"{count} cannot be read as images and are left out: {named}"),)
