"""Clothing: Fashion-MNIST where a folder has it; nothing stands in for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.gpu.digits import ROOT
from distill_queue.worker.data.sources import idx
from distill_queue.worker.data.sources.fashion_mnist import DEBIAN_FASHION_MNIST

#: Where its four files are looked for, packed or not.
PLACES = (
    DEBIAN_FASHION_MNIST,
    ROOT.parent / "shared" / "data" / "fashion-mnist",
    ROOT / ".gpu-data" / "fashion-mnist",
)


def provide(folder: Path) -> bool:
    """Copy the files into `FashionMNIST` in a folder of downloads, if they are found; return whether they were."""
    files = next((found for place in PLACES if (found := idx.find(place))), None)
    if files is None:
        return False
    there = folder / "FashionMNIST"
    there.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, there)
    return True
