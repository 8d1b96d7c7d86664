"""70,000 images of clothing, from Debian's package or downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path

from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources import idx
from distill_queue.worker.data.sources.torchvision_set import torchvision_set

#: Where Debian's package `dataset-fashion-mnist` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAMES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read(_dataset: DataSource, reading: Reading) -> Arrays:
    """Read Debian's files where they are, else those that torchvision downloads.

    Raises:
        DistillError: as `downloading`.

    """
    files = idx.find(DEBIAN_FASHION_MNIST)
    return idx.read_set(files, NAMES) if files else torchvision_set("FashionMNIST", reading.runtime, NAMES)
