"""Makes the arrays that rare-class.yaml reads: MNIST with few eights, which are 1 % of either split.

The four files of MNIST, packed or not, are wanted in a folder. Of the first 20,000 training samples, and of all test
samples, the first eights are kept, and all other digits:

    python examples/rare_class.py FOLDER
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

RARE = 8
#: Of all samples.
SHARE = 0.01
#: How many training samples are taken.
TRAIN = 20_000


def main(mnist: Path, arrays: Path) -> None:
    """Write images `[samples, 1, 28, 28]` and labels of both splits."""
    found = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        images = _read(mnist / f"{name}-images-idx3-ubyte", header_bytes=16).reshape(-1, 1, 28, 28)
        labels = _read(mnist / f"{name}-labels-idx1-ubyte", header_bytes=8).astype(np.int64)
        if split == "train":
            images, labels = images[:TRAIN], labels[:TRAIN]
        others, rare = np.flatnonzero(labels != RARE), np.flatnonzero(labels == RARE)
        kept = np.sort(np.append(others, rare[: round(len(others) * SHARE / (1.0 - SHARE))]))
        found |= {f"{split}_inputs": images[kept], f"{split}_targets": labels[kept]}
        print(f"{split}: {len(kept):,} samples, {len(kept) - len(others):,} of them an {RARE}")
    np.savez(arrays, **found)


def _read(path: Path, header_bytes: int) -> npt.NDArray[np.uint8]:
    """The bytes of an IDX file behind its header."""
    packed = path.with_name(f"{path.name}.gz")
    data = gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()
    return np.frombuffer(data, np.uint8, offset=header_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent / "rare-class.npz")
