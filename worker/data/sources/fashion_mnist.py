"""70,000 images of clothing, from Debian's package or downloaded by torchvision."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.sources.torchvision_set import torchvision_set
from distill_queue.worker.machine.runtime import Runtime

#: Where Debian's package `dataset-fashion-mnist` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAMES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read(_dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """Read Debian's files where they are, else those that torchvision downloads.

    Raises:
        DistillError: as `downloading`.

    """
    if not DEBIAN_FASHION_MNIST.is_dir():
        return torchvision_set("FashionMNIST", runtime, NAMES)
    train, test = (
        (
            _read_idx(DEBIAN_FASHION_MNIST / f"{split}-images-idx3-ubyte.gz", header_bytes=16).reshape(-1, 1, 28, 28),
            _read_idx(DEBIAN_FASHION_MNIST / f"{split}-labels-idx1-ubyte.gz", header_bytes=8).astype(np.int64),
        )
        for split in ("train", "t10k")
    )
    return Arrays(*train, *test, NAMES)


def _read_idx(path: Path, header_bytes: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8, offset=header_bytes)
