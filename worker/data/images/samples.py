"""Samples: the images of a layout as the arrays of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.image_folder import Channels, OnBad, Resize
from distill_queue.worker.data.arrays import TEST_SHARE, Arrays, first_of_each_class
from distill_queue.worker.data.images.decoding import Bad, Decoder
from distill_queue.worker.data.images.layout import Layout
from distill_queue.worker.data.images.picture import Framing
from distill_queue.worker.data.reading import Reading

#: Bad images that a message names one by one.
MOST_NAMED = 20


class ImageOptions(Protocol):
    """How a spec says that images become samples, and what is to be done about bad ones."""

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of a sample's height and width."""

    @property
    def resize(self) -> Resize:
        """How an image gets this size."""

    @property
    def channels(self) -> Channels:
        """Numbers of a pixel."""

    @property
    def on_bad(self) -> OnBad:
        """Whether a bad image is an error, or is left out."""

    @property
    def most_bad(self) -> float:
        """Share of the images that may be left out."""


@dataclass(frozen=True, slots=True)
class Images:
    """Images that can be read by their names, and what a spec says of them."""

    #: What messages call all of them.
    called: str
    options: ImageOptions
    #: What an image's file holds; raises NoFile where it cannot be had.
    read: Callable[[str], bytes]

    def arrays(self, layout: Layout, reading: Reading, *, refuses_own: bool) -> Arrays:
        """Decode the images of a layout: training samples, then held-out ones, then those without a label.

        Args:
            layout: the images' names and classes; without a test set, a fixed part of every class is kept for it.
            reading: takes the samples and the reports.
            refuses_own: whether it is an error if the layout has held-out samples.

        Raises:
            InvalidSpec: images are bad, too few for a test set, or held out twice.
            Unavailable: the disk does not give one for now.

        """
        layout = self._with_test_set(layout)
        if refuses_own and len(layout.validation):
            raise InvalidSpec(
                f"dataset.validation: {self.called} holds out samples of its own already: leave validation out"
            )
        training = layout.train + layout.validation + layout.unlabelled
        advance = reading.counting(number := len(training) + len(layout.test), "images")
        framing = Framing(*self.options.size, self.options.resize, self.options.channels)
        decoder = Decoder(self.read, framing, torch.get_num_threads(), advance)
        train = decoder.decode(training.paths, reading.scratch / "train")
        test = decoder.decode(layout.test.paths, reading.scratch / "test")
        skipped = self._of_bad((*train.bad, *test.bad), number)
        train_targets, test_targets = training.targets[train.good], layout.test.targets[test.good]
        learned = int(train.good[: len(layout.train)].sum())
        held_out = np.arange(learned, learned + int(train.good[len(layout.train) :][: len(layout.validation)].sum()))
        splits = (train.samples, train_targets), (test.samples, test_targets)
        arrays = Arrays.of_own(self.called, *splits, layout.class_names, held_out if len(held_out) else None)
        return replace(arrays, warnings=(*layout.warnings, *skipped, *arrays.warnings))

    def _with_test_set(self, layout: Layout) -> Layout:
        """A layout with a fixed part of every class kept for testing, if it has no test set.

        Raises:
            InvalidSpec: there are too few images for that.

        """
        if len(layout.test):
            return layout
        test = first_of_each_class(layout.train.targets, TEST_SHARE)
        if not test.any():
            raise InvalidSpec(f"{self.called}: no class has the three images of which one can be kept for testing")
        return replace(layout, train=layout.train.where(~test), test=layout.train.where(test))

    def _of_bad(self, bad: tuple[Bad, ...], number: int) -> tuple[DataWarning, ...]:
        """The warning of images that are left out.

        Raises:
            InvalidSpec: none may be, or not so many.

        """
        if not bad:
            return ()
        named = listed(list(map(str, bad)), MOST_NAMED)
        count = f"{len(bad):,} of {number:,} files"
        if self.options.on_bad == "fail":
            raise InvalidSpec(
                f"{self.called}: {count} cannot be read as images; repair or remove them, or say on_bad: skip: {named}"
            )
        if len(bad) > self.options.most_bad * number:
            raise InvalidSpec(
                f"{self.called}: {count} cannot be read as images, more than most_bad: {self.options.most_bad:g} "
                f"allows to skip: {named}"
            )
        return (DataWarning(kind="bad_files", text=f"{count} cannot be read as images and are left out: {named}"),)
