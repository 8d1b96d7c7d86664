"""Digits: MNIST where a folder has it, else generated images in its format."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from distill_queue.worker.data.sources import idx
from distill_queue.worker.data.sources.idx import Bytes

ROOT = Path(__file__).parents[2]
#: Names a folder with MNIST's four files, packed or not; else it is looked for in `PLACES`.
VARIABLE = "DISTILL_MNIST"
PLACES = (ROOT.parent / "shared" / "data" / "mnist", ROOT / ".gpu-data" / "mnist")
#: MNIST's files by split: images, labels, and samples.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}
SIDE = 28
#: Samples of each split in a dry run.
SMALL = {"train": 2_048, "test": 512}


def provide(folder: Path, *, dry: bool = False) -> str:
    """Write `MNIST/raw` into a folder, as torchvision looks for it; return in words where the digits are from."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    place = found()
    files = iter((place and idx.find(place)) or ())
    for split, (images_name, labels_name, samples) in FILES.items():
        count = SMALL[split] if dry else samples
        images, labels = (idx.read(next(files)), idx.read(next(files))) if place else _generated(split, count)
        idx.write(raw / images_name, images[:count])
        idx.write(raw / labels_name, labels[:count])
    return "MNIST" if place else "generated images"


def found() -> Path | None:
    """The folder with MNIST's four files: the one that `DISTILL_MNIST` names, or one of `PLACES`."""
    named = os.environ.get(VARIABLE)
    places = (Path(named),) if named else PLACES
    return next((place for place in places if idx.find(place)), None)


def _generated(split: str, count: int) -> tuple[Bytes, Bytes]:
    """Ten noisy patterns, shifted by up to two pixels: the same ones each time."""
    patterns = np.random.default_rng(0).normal(size=(10, SIDE // 4, SIDE // 4)).repeat(4, axis=1).repeat(4, axis=2)
    numbers = np.random.default_rng([1, split == "test"])
    labels = numbers.integers(0, 10, count, dtype=np.uint8)
    images = 128 + 40 * patterns[labels] + numbers.normal(scale=60, size=(count, SIDE, SIDE))
    for shift in range(5):
        images[shift::5] = np.roll(images[shift::5], shift - 2, axis=2)
    return images.clip(0, 255).astype(np.uint8), labels
