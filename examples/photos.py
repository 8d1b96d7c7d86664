"""Makes the folder that photos.yaml reads: crops of ten pictures that scikit-image and scikit-learn ship, a class each.

`pip install scikit-image` first. Each picture is divided into cells; crops for testing come from other cells than those
for training, so that no pixel is in both.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = {
    "skimage/data": [
        "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
        "retina.jpg", "rocket.jpg",
    ],
    "sklearn/datasets/images": ["china.jpg", "flower.jpg"],
}  # fmt: skip
CELLS, EVERY = 4, 3
TRAIN, TEST = 200, 50
SMALLEST, LARGEST = 48, 74


def main(folder: Path) -> None:
    """Write `train/<picture>/*.jpg` and `test/<picture>/*.jpg`, the same ones every time."""
    for package, names in PICTURES.items():
        found = find_spec(package.partition("/")[0])
        if found is None or found.origin is None:
            sys.exit(f"{package}: pip install scikit-image scikit-learn")
        for name in names:
            picture = Image.open(Path(found.origin).parents[1] / package / name).convert("RGB")
            for split, count in (("train", TRAIN), ("test", TEST)):
                crop(picture, split, count, folder / split / Path(name).stem)


def crop(picture: Image.Image, split: str, count: int, folder: Path) -> None:
    """Write crops of random sizes, each from inside one cell of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([split == "test", *picture.size])
    cells = [place for place in range(CELLS * CELLS) if (place % EVERY == 0) == (split == "test")]
    width, height = (side // CELLS for side in picture.size)
    for number in range(count):
        down, across = divmod(int(random.choice(cells)), CELLS)
        side = int(random.integers(SMALLEST, LARGEST))
        left = across * width + int(random.integers(0, width - side + 1))
        top = down * height + int(random.integers(0, height - side + 1))
        picture.crop((left, top, left + side, top + side)).save(folder / f"{number:03}.jpg", quality=92)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "photos")
