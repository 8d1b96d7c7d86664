"""Pictures: the images in a column of each split, by names as `train[17]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import datasets
import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoFile
from distill_queue.worker.data.hugging_face.splits import Split
from distill_queue.worker.data.images.decoding import content_of_file
from distill_queue.worker.data.images.layout import Files, Layout
from distill_queue.worker.data.tables.labels import Targets
from distill_queue.worker.data.tables.parts import WHOLE


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of each part, which are decoded elsewhere."""

    #: The split of each part, with its images as they are stored.
    parts: Mapping[str, Split]
    column: str
    #: Below which images lie that the data set has as files of their own.
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, splits: Mapping[str, Split], column: str, folders: tuple[Path, ...]) -> Self:
        """Those in a column.

        Raises:
            InvalidSpec: it is missing, or holds something else.

        """
        parts = {}
        for part, split in splits.items():
            if not isinstance(feature := split.feature(column, "image.column"), datasets.Image):
                raise InvalidSpec(f"dataset.image.column: {split.called}: '{column}' holds {feature}, and no images")
            stored = split.rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
            parts[part] = replace(split, rows=stored)
        return cls(parts, column, folders)

    def layout(self, class_names: tuple[str, ...], targets: Mapping[str, Targets]) -> Layout:
        """The images' names and classes."""

        def files(part: str) -> Files:
            if part not in self.parts:
                return Files((), np.empty(0, np.int64))
            return Files(tuple(map(self.parts[part].at, range(len(self.parts[part])))), targets[part])

        train = files("train") + files(WHOLE)
        return Layout(class_names, train, files("validation"), files("test"), files("unlabelled"), warnings=())

    def read(self, name: str) -> bytes:
        """What the file of an image holds.

        Raises:
            NoFile: it has none, or one outside of the data set.
            Unavailable: the disk does not give it for now.

        """
        split, _, row = name.removesuffix("]").rpartition("[")
        rows = next(each.rows for each in self.parts.values() if each.name == split)
        image = rows[int(row)][self.column]
        if image is None:
            raise NoFile("is missing")
        if image["bytes"] is not None:
            content: bytes = image["bytes"]
            return content
        path = Path(image["path"] or "")
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in self.folders):
            raise NoFile(f"names a file that is not in the data set: {path}")
        return content_of_file(path, name)
