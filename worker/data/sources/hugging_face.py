"""Data sets of Hugging Face's library `datasets`, from their hub or from a folder: images, or texts as tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill_queue.shared.spec.sources.hugging_face import (
    HuggingFaceData,
    HuggingFaceFolderSpec,
    HuggingFaceHubSpec,
    ImageColumn,
    TextColumn,
)
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine import extras

if TYPE_CHECKING:
    from distill_queue.worker.data.hugging_face.splits import Split
    from distill_queue.worker.data.tables.labels import Targets

    Labels = tuple[tuple[str, ...], dict[str, Targets]]


def read(dataset: HuggingFaceFolderSpec | HuggingFaceHubSpec, reading: Reading) -> Arrays:
    """Read the images or texts of a data set.

    Raises:
        InvalidSpec: there is no such data set, it lacks what the spec names, or it is no classification.
        StageFailed: the folder is not what was submitted.
        Unavailable: the hub or the disk does not give it for now.

    """
    extras.require("datasets", "huggingface", "dataset: data sets of Hugging Face's need")
    from distill_queue.worker.data.hugging_face.labels import labels_of
    from distill_queue.worker.data.hugging_face.splits import downloaded, in_folder

    place, content = None, None
    if isinstance(dataset, HuggingFaceFolderSpec):
        place, content = reading.place(dataset), reading.content(dataset)
        reading.report("reading")
        splits = in_folder(dataset, place, reading.scratch)
    else:
        reading.report("downloading")
        splits = downloaded(dataset)
    labels = labels_of(splits, dataset.target)
    if dataset.image:
        arrays = _images(dataset, dataset.image, place, splits, labels, reading)
    else:
        arrays = _texts(dataset, dataset.text or TextColumn(), splits, labels, reading)
    return replace(arrays, content=content)


def _images(
    dataset: HuggingFaceData,
    options: ImageColumn,
    place: Path | None,
    splits: dict[str, Split],
    labels: Labels,
    reading: Reading,
) -> Arrays:
    from distill_queue.worker.data.hugging_face.pictures import Pictures
    from distill_queue.worker.data.hugging_face.splits import CACHE
    from distill_queue.worker.data.images.samples import Images

    pictures = Pictures.of(splits, options.column, (place or CACHE, reading.scratch))
    images = Images(dataset.called, options, pictures.read)
    return images.arrays(pictures.layout(*labels), reading, refuses_own=dataset.refuses_own_validation)


def _texts(
    dataset: HuggingFaceData, options: TextColumn, splits: dict[str, Split], labels: Labels, reading: Reading
) -> Arrays:
    from distill_queue.worker.data.text.samples import Texts
    from distill_queue.worker.data.text.tokens import Tokens

    parts = {}
    for part, split in splits.items():
        split.feature(options.column, "text.column")
        parts[part] = split.read(options.column)
    texts = Texts(dataset.called, options.column, parts)
    return texts.arrays(*labels, lambda some: Tokens.trained(options.tokenizer, some, options.length), reading)
