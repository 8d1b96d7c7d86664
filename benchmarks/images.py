"""Images: seconds to prepare a folder of JPEGs of 500 x 375, beside decoding them alone and other ways to read them.

`python -m benchmarks.images`, `--images 20000`, `--pictures FOLDER` for photographs of your own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from distill_queue.shared.spec.dataset import dataset_reader
from distill_queue.worker.data import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

SIZE, WIDTH, HEIGHT, CLASSES, ROUNDS = 96, 500, 375, 10, 3


def main() -> None:
    """Time each way in turn, and print medians of the rounds as ratios to the faster way of decoding alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs; scikit-learn's two without it")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        generate(folder / "photos", given.images, given.pictures)
        files = sorted((folder / "photos").rglob("*.jpg"))
        ways: dict[str, Callable[[], None]] = {
            "prepared here, hashes known": lambda: prepare(folder),
            "prepared here, decoded and written only": lambda: decode_here(folder, cores),
            "torchvision: decode and resize alone": lambda: in_threads(cores, with_torchvision, files),
            "Pillow: decode and resize alone, threads": lambda: in_threads(cores, with_pillow, files),
            "a plain Pillow loop": lambda: in_threads(1, with_pillow, files),
            "ImageFolder + DataLoader, 2 workers": lambda: with_loader(folder / "photos"),
        }
        prepare(folder)  # The files are in memory and their hashes known from now on.
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - began)
    alone = min(median(times) for name, times in seconds.items() if "alone" in name)
    table = Table(title=f"{given.images:,} JPEGs of {WIDTH} x {HEIGHT} to {SIZE} x {SIZE}, {cores} cores")
    for column in ("", "seconds", "images/s", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in seconds.items():
        middle = median(times)
        table.add_row(name, f"{middle:.2f}", f"{given.images / middle:,.0f}", f"{middle / alone:.2f}x")
    table.caption = "ratio: to the faster of both decoding alone; medians of rounds in turn; load " + str(
        os.getloadavg()
    )
    Console(width=110).print(table)


def generate(folder: Path, images: int, pictures: Path | None) -> None:
    """Write crops of photographs, scaled and re-encoded at quality 85."""
    import sklearn.datasets

    place = pictures or Path(sklearn.datasets.__file__).parent / "images"
    sources = [Image.open(path).convert("RGB") for path in sorted(place.iterdir()) if path.suffix in (".jpg", ".png")]
    random = np.random.default_rng(0)
    for number in range(images):
        source = sources[number % len(sources)]
        scale = random.uniform(0.5, 1.0) * min(source.width / WIDTH, source.height / HEIGHT)
        across, down = WIDTH * scale, HEIGHT * scale
        left, top = random.uniform(0, source.width - across), random.uniform(0, source.height - down)
        box = (left, top, left + across, top + down)
        (to := folder / f"class{number % CLASSES}").mkdir(parents=True, exist_ok=True)
        source.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box).save(to / f"{number:06}.jpg", quality=85)


def spec_and_runtime(folder: Path) -> tuple[dict[str, object], Runtime]:
    """The spec of the folder, and the runtime of a worker that reads it."""
    runtime = Runtime(torch.device("cpu"), data=(folder,), digests=folder / "digests")
    return {"name": "image_folder", "path": "photos", "size": SIZE}, runtime


def prepare(folder: Path) -> None:
    """Everything that the stage does: comparing, decoding, checks, statistics and the packed arrays."""
    spec, runtime = spec_and_runtime(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        load.load(dataset_reader().validate_python(spec), Reading(runtime, Path(scratch))).save(Path(scratch))


def decode_here(folder: Path, cores: int) -> None:
    """Our decoder without what comes before and after."""
    from distill_queue.worker.data.images.decoding import Decoder, content_of_file
    from distill_queue.worker.data.images.layout import Layout
    from distill_queue.worker.data.images.picture import Framing

    paths = Layout.of(folder / "photos", "photos").train.paths
    decoder = Decoder(
        lambda name: content_of_file(folder / "photos" / name, name),
        Framing(SIZE, SIZE, "crop", 3),
        cores,
        lambda _: None,
    )
    decoder.decode(paths, folder / "decoded")


def in_threads(threads: int, decode: Callable[[Path], None], files: list[Path]) -> None:
    """Decode files in so many threads, and keep nothing."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, files, chunksize=64):
            pass


def with_torchvision(path: Path) -> None:
    """A whole image by torchvision, then its antialiasing resize."""
    from torchvision.io import decode_jpeg, read_file
    from torchvision.transforms.v2.functional import center_crop, resize

    center_crop(resize(decode_jpeg(read_file(str(path))), [SIZE], antialias=True), [SIZE])


def with_pillow(path: Path) -> None:
    """A whole image by Pillow, then its bilinear resize."""
    from torchvision.transforms.v2.functional import center_crop, resize

    with Image.open(path) as image:
        np.asarray(center_crop(resize(image.convert("RGB"), [SIZE]), [SIZE]))


def with_loader(folder: Path) -> None:
    """What most programs do, once over all images."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.Resize(SIZE), v2.CenterCrop(SIZE), v2.PILToTensor()]
    loader: Iterator[object] = iter(
        torch.utils.data.DataLoader(ImageFolder(str(folder), v2.Compose(steps)), batch_size=64, num_workers=2)
    )
    for _ in loader:
        pass


if __name__ == "__main__":
    main()
