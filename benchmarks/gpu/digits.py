"""Digits: MNIST where a folder has it, else generated images in its format."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

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

Bytes = npt.NDArray[np.uint8]


def provide(folder: Path, *, dry: bool) -> str:
    """Write `MNIST/raw` into a folder, as torchvision looks for it; return in words where the digits are from."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    place = _found()
    for split, (images_name, labels_name, samples) in FILES.items():
        count = SMALL[split] if dry else samples
        if place is None:
            images, labels = _generated(split, count)
        else:
            images = _read(place / images_name, header_bytes=16).reshape(-1, SIDE, SIDE)[:count]
            labels = _read(place / labels_name, header_bytes=8)[:count]
        _write(raw / images_name, images)
        _write(raw / labels_name, labels)
    return "generated images" if place is None else "MNIST"


def _found() -> Path | None:
    named = os.environ.get(VARIABLE)
    places: Iterator[Path] = iter((Path(named),) if named else PLACES)
    names = [name for *both, _ in FILES.values() for name in both]
    return next((place for place in places if all(_file(place / name) for name in names)), None)


def _file(path: Path) -> Path | None:
    """The file of a name, packed or not."""
    packed = path.with_name(f"{path.name}.gz")
    return next((each for each in (path, packed) if each.is_file()), None)


def _read(path: Path, header_bytes: int) -> Bytes:
    file = _file(path)
    assert file, f"{path} was there a moment ago"
    data = file.read_bytes()
    return np.frombuffer(gzip.decompress(data) if file.suffix == ".gz" else data, np.uint8, offset=header_bytes)


def _generated(split: str, count: int) -> tuple[Bytes, Bytes]:
    """Ten noisy patterns, shifted by up to two pixels: the same ones each time."""
    patterns = np.random.default_rng(0).normal(size=(10, SIDE // 4, SIDE // 4)).repeat(4, axis=1).repeat(4, axis=2)
    numbers = np.random.default_rng([1, split == "test"])
    labels = numbers.integers(0, 10, count, dtype=np.uint8)
    images = 128 + 40 * patterns[labels] + numbers.normal(scale=60, size=(count, SIDE, SIDE))
    for shift in range(5):
        images[shift::5] = np.roll(images[shift::5], shift - 2, axis=2)
    return images.clip(0, 255).astype(np.uint8), labels


def _write(path: Path, values: Bytes) -> None:
    """Write a file in the IDX format: a magic number, the dimensions, the bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], dtype=">i4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(values).tobytes())
