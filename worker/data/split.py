"""Splits: training, validation or test samples of a packed set, as tensors on a device or mapped from the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.results.pixels import reach_from_black_to_white
from distill_queue.shared.results.records import DatasetRecord, InputRecord
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.machine.inputs import Inputs

#: Bytes of samples, as float32, that are computed with in one go.
PIECE_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Field:
    """One of several inputs of a sample, in the bytes that a sample is stored as."""

    record: InputRecord
    dtype: torch.dtype
    #: Its bytes in a sample's.
    place: slice
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def all_of(cls, stored: np.dtype[Any], record: DatasetRecord, device: torch.device) -> dict[str, Self]:
        """Every input of a data set by its name, of samples that are stored as records of this type."""
        fields: dict[str, Self] = {}
        for name, each in record.inputs.items():
            kind, first, *_ = stored.fields[name] if stored.fields else (stored, 0)
            dtype = torch.from_numpy(np.empty(0, kind.base)).dtype
            mean, std = (_channels(values, each.shape, device) for values in (each.mean, each.std))
            fields[name] = cls(each, dtype, slice(first, first + kind.itemsize), mean, std)
        return fields

    def values(self, stored: torch.Tensor) -> torch.Tensor:
        """The input of samples that are stored as bytes `[samples, bytes]`, as it was stored."""
        # A copy, always: a single row's bytes are contiguous where they are, and may begin at an odd address.
        own = stored[:, self.place].clone(memory_format=torch.contiguous_format)
        return own.view(self.dtype).view(len(stored), *self.record.shape)

    def of(self, stored: torch.Tensor) -> torch.Tensor:
        """The input of samples that are stored as bytes `[samples, bytes]`, as the model takes it."""
        values = self.values(stored)
        match self.record.kind:
            case "tokens":
                return values.long()
            case "flags":
                return values
        return (values.float() - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Split:
    """One split: inputs as stored, targets int64 `[samples]` on the device."""

    #: On the device; or a memory-mapped array from which they are streamed. Several inputs of a sample are stored
    #: together, as bytes `[samples, bytes]`.
    inputs: torch.Tensor | Array
    targets: torch.Tensor
    #: `[channels, 1, 1]`: what `normalise` takes off and divides by.
    mean: torch.Tensor
    std: torch.Tensor
    #: How many of the targets are labels.
    labelled: int
    #: The array that is mapped; None where the inputs were never in a file.
    file: Path | None = None
    #: The inputs by their names, where a sample has several.
    fields: dict[str, Field] = field(default_factory=dict)
    #: The value of a white pixel, if the samples are images; black is 0.
    white: float = 255.0

    @classmethod
    def open(
        cls, folder: Path, split: str, record: DatasetRecord, device: torch.device, *, streamed: bool = False
    ) -> Self:
        """Read a split of a packed data set, its inputs now or as they are needed."""
        mean, std = (_channels(values, record.shape, device) for values in (record.mean, record.std))
        targets = torch.from_numpy(read_array(folder / f"{split}_targets.npy"))
        file = folder / f"{split}_inputs.npy"
        inputs, labelled = read_array(file, mapped=True), int((targets >= 0).sum())
        fields, white = Field.all_of(inputs.dtype, record, device), record.white
        mapped = cls(as_bytes(inputs), targets.to(device), mean, std, labelled, file, fields, white)
        return mapped if streamed else mapped.read_whole()

    def read_whole(self) -> Self:
        """The same with its inputs on the device, read now."""
        # Not from the map: what the disk refuses there is a signal that ends the process.
        inputs = self.inputs if self.file is None else torch.from_numpy(as_bytes(read_array(self.file))).to(self.device)
        return replace(self, inputs=inputs)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where the samples are computed with."""
        return self.targets.device

    @property
    def tokens(self) -> bool:
        """Whether the one input names things, as words of a vocabulary, and measures nothing."""
        return not self.mean.numel() and not self.fields

    @property
    def stored_as_bytes(self) -> bool:
        """Whether the one input is stored as bytes, as pixels are."""
        return not self.fields and self.inputs.dtype in (torch.uint8, np.dtype(np.uint8))

    @property
    def reaches_from_black_to_white(self) -> bool:
        """Whether all pixels may be from 0 to white, as far as their mean and deviation tell; waits for the device."""
        mean, std = (values.double().flatten().tolist() for values in (self.mean, self.std))
        return reach_from_black_to_white(mean, std, self.white)

    def read(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Some samples as stored, on the device."""
        if isinstance(rows, torch.Tensor):
            return take(self.inputs, rows, self.device)
        inputs = self.inputs[rows]
        return inputs if isinstance(inputs, torch.Tensor) else torch.from_numpy(inputs.copy()).to(self.device)

    def normalised(self, rows: torch.Tensor | slice) -> Inputs:
        """Some samples as the model takes them."""
        return self.as_inputs(self.read(rows))

    def as_inputs(self, stored: torch.Tensor) -> Inputs:
        """Samples that were read, as the model takes them; tokens stay numbers, int64."""
        if self.fields:
            return {name: each.of(stored) for name, each in self.fields.items()}
        return stored.long() if self.tokens else self.normalise(stored.float())

    def normalise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Samples as the model takes them: mean 0 and deviation 1 a channel; from float32 on the stored scale."""
        return (inputs - self.mean) / self.std


def _channels(values: tuple[float, ...], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A value for each channel of samples of a shape."""
    return torch.tensor(values, device=device).reshape(-1, *[1] * (len(shape) - 1))


def as_bytes(samples: Array) -> Array:
    """Samples of one input as they are; of several, the bytes `[samples, bytes]` of their records."""
    return samples if samples.dtype.names is None else samples.view(np.uint8).reshape(len(samples), -1)


def numbers_of(samples: torch.Tensor | Array) -> int:
    """How many numbers a sample has; of several inputs, how many bytes."""
    numbers = math.prod(samples.shape[1:])
    return numbers * samples.dtype.itemsize if isinstance(samples, np.ndarray) and samples.dtype.names else numbers


def pieces(samples: torch.Tensor | Array) -> Iterator[slice]:
    """Successive rows that are not too many to be computed with at once."""
    rows = max(1, PIECE_BYTES // (4 * max(1, numbers_of(samples))))
    for start in range(0, len(samples), rows):
        yield slice(start, start + rows)


def take(source: torch.Tensor | Array, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Rows `[batch]` of a tensor on the device, or of a memory-mapped array: then `rows` are on the CPU."""
    if isinstance(source, torch.Tensor):
        return source.index_select(0, rows)
    # NumPy's, as torch would start another team of threads in the thread that calls this.
    taken = torch.from_numpy(np.take(source, rows.numpy(), axis=0))
    return taken if device.type == "cpu" else taken.pin_memory().to(device, non_blocking=True)
