"""Ways to keep a teacher's logits: the soft-label cache, and what people use without it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from distill_queue.shared.soft_labels.cache import SoftLabels, SoftLabelsHeader, block_rows
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array, Floats
from distill_queue.shared.soft_labels.writer import LABELS, SoftLabelsWriter

#: Numbers that the random teacher knows of a sample.
FEATURES = 64
#: Standard deviation of a sample's features around its class's.
SPREAD = 1.5
#: Of the teacher's weights: the largest probability is then 0.98 in the mean of 10 classes, 0.55 of 1,000.
WEIGHT = 0.15
#: Files of one sample each that are made at most: they take long, and each is as the others.
MOST_FILES = 4_096

Indices = npt.NDArray[np.int64]
Read = Callable[[Indices], Array]


class Format(Protocol):
    """A way to keep logits in an empty folder."""

    @property
    def name(self) -> str:
        """The format in a few words."""

    @property
    def most(self) -> int | None:
        """Samples that are kept at most when it is measured; None: all."""

    def write(self, folder: Path, logits: Array) -> None:
        """Keep logits `[samples, classes]`."""

    def open(self, folder: Path) -> Read:
        """A function that gives the logits `[batch, classes]` of some samples; what it loads at once is loaded."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Ours."""

    encoding: Encoding
    most: int | None = None

    @property
    def name(self) -> str:
        """The encoding."""
        return self.encoding.name if self.encoding.top_k else f"dense {self.encoding.name}"

    def write(self, folder: Path, logits: Array) -> None:
        """All blocks, and the seal."""
        self.write_blocks(folder, logits).seal().folder.rename(folder / LABELS)

    def write_blocks(self, folder: Path, logits: Array) -> SoftLabelsWriter:
        """All blocks, which are not sealed yet."""
        writer = SoftLabelsWriter.begin(folder, header(self.encoding, *logits.shape))
        for block in range(writer.header.blocks):
            writer.write(block, logits[writer.header.rows_of(block)[1]])
        return writer

    def open(self, folder: Path) -> Read:
        """Decoded rows."""
        return SoftLabels.open(folder / LABELS).batch


@dataclass(frozen=True, slots=True)
class TorchFiles:
    """A pickle for each sample, as torchdistill's cache: the dictionary, the places and the calls are those of 1.1.4.

    It has the logits twice, as the teacher's output and among the outputs that were asked for.
    """

    name: str = "torch.save, a file a sample"
    most: int | None = MOST_FILES

    def write(self, folder: Path, logits: Array) -> None:
        """A file for each sample, in a folder named for its last four digits."""
        import torch

        for sample, row in enumerate(logits):
            path = self._path(folder, sample)
            path.parent.mkdir(parents=True, exist_ok=True)
            output = torch.Tensor(torch.from_numpy(row).numpy())
            torch.save({"teacher_outputs": torch.Tensor(row), "extracted_outputs": {".": {"output": output}}}, path)

    def open(self, folder: Path) -> Read:
        """Reads each sample's file, and stacks."""
        import torch

        def read(indices: Indices) -> Array:
            loaded = [torch.load(self._path(folder, sample), weights_only=False) for sample in indices.tolist()]
            batch: Array = torch.stack([each["teacher_outputs"] for each in loaded]).numpy()
            return batch

        return read

    def _path(self, folder: Path, sample: int) -> Path:
        digits = f"{sample:04d}"
        return folder / digits[-4:] / f"{digits}.pt"


@dataclass(frozen=True, slots=True)
class Npz:
    """One .npz of float32, loaded whole."""

    compressed: bool = False
    most: int | None = None

    @property
    def name(self) -> str:
        """How it is saved."""
        return "np.savez_compressed float32" if self.compressed else "np.savez float32"

    def write(self, folder: Path, logits: Array) -> None:
        """One file."""
        (np.savez_compressed if self.compressed else np.savez)(folder / "logits.npz", logits=logits)

    def open(self, folder: Path) -> Read:
        """Loads all."""
        logits: Array = np.load(folder / "logits.npz")["logits"]
        return lambda indices: logits[indices]


@dataclass(frozen=True, slots=True)
class Npy:
    """One .npy of float16, memory-mapped: the least that one can do, without checks of any kind."""

    name: str = "np.save float16, mapped"
    most: int | None = None

    def write(self, folder: Path, logits: Array) -> None:
        """One file."""
        np.save(folder / "logits.npy", logits.astype(np.float16))

    def open(self, folder: Path) -> Read:
        """Maps it."""
        logits: Array = np.load(folder / "logits.npy", mmap_mode="r")
        return lambda indices: logits[indices].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Parquet:
    """A column of lists of a fixed length, compressed with snappy as by default; needs pyarrow."""

    dtype: Literal["float32", "float16"]
    #: Take a batch from the file, not from a table that was read whole.
    lazily: bool = False
    most: int | None = None
    pyarrow: Any = field(default_factory=lambda: importlib.import_module("pyarrow"), repr=False)

    @property
    def name(self) -> str:
        """The type, and how it is read where that matters."""
        return f"parquet {self.dtype}" + (", dataset.take" if self.lazily else "")

    def write(self, folder: Path, logits: Array) -> None:
        """One file."""
        flat = self.pyarrow.array(logits.astype(self.dtype, copy=False).ravel())
        column = self.pyarrow.FixedSizeListArray.from_arrays(flat, logits.shape[1])
        parquet = importlib.import_module("pyarrow.parquet")
        parquet.write_table(self.pyarrow.table({"logits": column}), folder / "logits.parquet")

    def open(self, folder: Path) -> Read:
        """Reads all, or only the file's description."""
        path = folder / "logits.parquet"
        if self.lazily:
            table = importlib.import_module("pyarrow.dataset").dataset(path)
        else:
            table = importlib.import_module("pyarrow.parquet").read_table(path).combine_chunks()

        def read(indices: Indices) -> Array:
            column = table.take(self.pyarrow.array(indices)).column("logits").combine_chunks()
            flat: Array = column.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(indices), -1).astype(np.float32, copy=False)

        return read


@cache
def others(*, reading: bool = False) -> tuple[Format, ...]:
    """What people use: all ways to write, or all ways to read."""
    formats: list[Format] = [Npy(), Npz(), TorchFiles()]
    if not reading:
        formats.append(Npz(compressed=True))
    try:
        formats += [Parquet("float32"), Parquet("float16")]
        if reading:
            formats.append(Parquet("float16", lazily=True))
    except ImportError:
        print("parquet is left out: pip install pyarrow")
    return tuple(formats)


def header(encoding: Encoding, samples: int, classes: int) -> SoftLabelsHeader:
    """Of labels with one view, and names as long as those of ImageNet's classes."""
    return SoftLabelsHeader(
        views=1,
        samples=samples,
        class_names=tuple(f"n{number:08d}" for number in range(classes)),
        encoding=encoding,
        dataset_key="d" * 64,
        teacher_key="e" * 64,
        block_rows=block_rows(classes),
    )


def linear_teacher(samples: int, classes: int) -> Floats:
    """Logits `[samples, classes]` with which a few classes dominate, always the same ones.

    A random linear teacher of samples that scatter around random centres: the right class stands out, classes with
    centres nearby come after it, and the rest is a wide middle, as with a classifier that was trained.
    """
    numbers = np.random.default_rng(0)
    centres = numbers.standard_normal((classes, FEATURES), dtype=np.float32)
    features = centres[numbers.integers(classes, size=samples)]
    features += np.float32(SPREAD) * numbers.standard_normal((samples, FEATURES), dtype=np.float32)
    logits: Floats = features @ (centres.T * np.float32(WEIGHT))
    return logits


def files(folder: Path) -> list[os.stat_result]:
    """Facts of all files below a folder."""
    return [path.stat() for path in folder.rglob("*") if path.is_file()]
