"""How much of soft labels is measured, and what all parts of `python -m benchmarks.labels` share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.label_formats import Format
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array

ROOT = Path(__file__).parents[1]
DENSE_32, DENSE_16, DENSE_8 = Encoding(dtype="float32"), Encoding(dtype="float16"), Encoding(dtype="uint8")
TOP_10, TOP_50 = Encoding(dtype="float16", top_k=10), Encoding(dtype="float16", top_k=50)
TOP_50_8 = Encoding(dtype="uint8", top_k=50)
IMAGENET = 1_281_167
CLASSES = (10, 100, 1_000)
BATCHES = (256, 4_096)
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    rounds: int
    #: Samples that sizes are taken of.
    sized: int
    #: Samples of 1,000 classes that are written.
    written: int
    #: Logits that are read from, in no more samples than ImageNet has.
    read: int
    #: Samples of 1,000 classes at scale.
    scaled: int
    #: Seeds of a student, and epochs.
    seeds: int
    epochs: int


FULL = Extent(rounds=5, sized=20_000, written=131_072, read=131_072_000, scaled=IMAGENET, seeds=5, epochs=5)
QUICK = Extent(rounds=3, sized=2_000, written=8_192, read=8_192_000, scaled=40_960, seeds=2, epochs=1)


@contextmanager
def written_labels(form: Format, folder: Path, logits: Array) -> Iterator[tuple[Path, int, float]]:
    """A folder in which logits are kept for as long, how many samples of them, and the seconds that it took."""
    kept = logits[: form.most]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        started = time.perf_counter()
        form.write(place, kept)
        yield place, len(kept), time.perf_counter() - started


def table_of(title: str, *columns: str) -> Table:
    """A table with a column for what is measured, and columns of numbers."""
    table = Table(title=title, min_width=len(title))
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left")
    return table
