"""Images in a folder: a folder for each class, in folders for each split."""

from __future__ import annotations

from dataclasses import replace

from distill_queue.shared.spec.sources.image_folder import ImageFolderSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.images.decoding import content_of_file
from distill_queue.worker.data.images.layout import Layout
from distill_queue.worker.data.images.samples import Images
from distill_queue.worker.data.reading import Reading


def read(dataset: ImageFolderSpec, reading: Reading) -> Arrays:
    """Decode the images of a folder.

    Raises:
        InvalidSpec: the folder has no classes, or files in it are bad.
        StageFailed: they are not what was submitted.
        Unavailable: the disk does not give a file for now.

    """
    place = reading.place(dataset)
    content = reading.content(dataset)
    layout = Layout.of(place, dataset.path, reading.report)
    images = Images(dataset.path, dataset, lambda name: content_of_file(place / name, name))
    return replace(images.arrays(layout, reading, refuses_own=dataset.refuses_own_validation), content=content)
