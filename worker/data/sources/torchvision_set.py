"""Data sets of torchvision's: how they are downloaded and read; the sources of several built-in sets call it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.sources import idx
from distill_queue.worker.machine.downloads import downloading
from distill_queue.worker.machine.runtime import Runtime


def torchvision_set(class_name: str, runtime: Runtime, names: tuple[str, ...] | None = None) -> Arrays:
    """A data set of torchvision's, downloaded if it is not there yet.

    Files in MNIST's format are read as they are, packed or not, and whatever their checksums. They lie in a folder that
    has the set's name, as a spec or torchvision writes it in a folder of data, as torchvision does in that of
    downloads. torchvision keeps what it downloads in a folder `raw` below.

    Args:
        class_name: of torchvision's class.
        runtime: whose folders of data and of downloads are used.
        names: of the classes, where torchvision's are not to be taken.

    Raises:
        Unavailable: the download failed, and may go well another time.
        StageFailed: it failed for good, or what was downloaded is damaged.

    """
    import torchvision.datasets

    kind, downloads = getattr(torchvision.datasets, class_name), runtime.downloads
    if hasattr(kind, "mirrors"):
        in_data = (folder / name for folder in runtime.data for name in (class_name, _snake_case(class_name)))
        for given in (*in_data, downloads / class_name):
            if files := idx.find(given):
                with downloading(class_name, given, "put its files there again"):
                    return idx.read_set(files, names or tuple(kind.classes))
    with downloading(class_name, *_by_hand(kind, downloads)):
        train, test = (kind(downloads, train=split, download=True) for split in (True, False))
    return Arrays(
        _channels_first(train.data),
        np.asarray(train.targets, dtype=np.int64),
        _channels_first(test.data),
        np.asarray(test.targets, dtype=np.int64),
        names or tuple(train.classes),
    )


def _snake_case(class_name: str) -> str:
    """The name of a class of torchvision's as a spec has it: `FashionMNIST` as `fashion_mnist`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", class_name).lower()


def _by_hand(kind: Any, downloads: Path) -> tuple[Path, str]:
    """The folder of a data set of torchvision's, and how its files get there without a network."""
    if mirrors := getattr(kind, "mirrors", ()):
        folder, files = downloads / kind.__name__, [name for name, _ in kind.resources]
        return (
            folder / "raw",
            f"without a network, put {', '.join(files)} from {mirrors[0]}, packed or not, into {folder}",
        )
    return downloads, f"without a network, put {kind.filename} from {kind.url} there"


def _channels_first(images: Any) -> Array:
    images = np.asarray(images)
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
