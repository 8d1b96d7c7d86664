"""Teacher logits: soft labels as tensors, for this system's batches and for other people's loops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.split import take

#: Types that index tensors can be taken from, by their size; the bits are those of the unsigned ones.
_SIGNED = {1: np.uint8, 2: np.int16, 4: np.int32}


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """The columns of a cache, on a device or memory-mapped, and what makes logits of them."""

    encoding: Encoding
    classes: int
    #: `[views, samples, width]` each.
    columns: tuple[torch.Tensor | Array, ...]

    @classmethod
    def of(cls, labels: SoftLabels, device: torch.device, *, streamed: bool = False) -> Self:
        """Those of a cache: on the device as they are stored, or read from the disk as they are needed."""
        columns: tuple[torch.Tensor | Array, ...] = tuple(
            column.view(_SIGNED[column.itemsize]) if column.dtype.kind == "u" else column for column in labels.columns
        )
        if not streamed:
            columns = tuple(torch.from_numpy(np.array(column)).to(device) for column in columns)
        return cls(labels.header.encoding, labels.header.classes, columns)

    @property
    def streamed(self) -> bool:
        """Whether they are read from the disk."""
        return isinstance(self.columns[0], np.ndarray)

    def take(self, rows: torch.Tensor, view: int | torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The columns' rows `[batch, width]` of some samples in a view, as they are stored, on the device.

        The view may be a tensor without dimensions where the columns are on the device, which is not waited for then.
        """
        if isinstance(view, torch.Tensor):
            samples = self.columns[0].shape[1]
            whole = (column.flatten(0, 1) for column in self.columns if isinstance(column, torch.Tensor))
            return tuple(take(column, rows + view * samples, device) for column in whole)
        return tuple(take(column[view], rows, device) for column in self.columns)

    def logits(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Logits `[batch, classes]` of rows that were taken: `Encoding.decode`, on the device.

        Dense float16 stays float16: the losses compute in float32 anyway.
        """
        if self.encoding.top_k is None:
            return self._kept(taken[0], taken[1:])
        indices, values, sums, *scales = taken
        kept = self._kept(values, tuple(scales)).float()
        fill = kept.double().logsumexp(1) + sums[:, 1].double() - math.log(self.classes - kept.shape[1])
        below = torch.nextafter(kept[:, 0], kept.new_full((), -math.inf))
        fill = torch.minimum(fill.float(), below)
        mask = (1 << (8 * indices.element_size())) - 1
        return fill[:, None].repeat(1, self.classes).scatter_(1, indices.long() & mask, kept)

    def _kept(self, values: torch.Tensor, scales: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.encoding.dtype != "uint8":
            return values
        (scale,) = scales
        return values.float() * scale[:, 1:] + scale[:, :1]


class SoftLabelDataset(Dataset[Any]):
    """A cache as a map-style dataset, alone or beside the samples that it is of.

    Item i is the teacher's logits on sample i, float32 `[classes]`, before softmax; with `samples`, the pair of their
    item i and the logits. A `DataLoader` fetches whole batches at once, and worker processes map the cache anew.
    """

    def __init__(self, labels: SoftLabels, samples: Any = None, view: int = 0) -> None:
        """Take a cache.

        Args:
            labels: the cache.
            samples: anything with a length and items, in the order of the labels.
            view: which view's logits are given; `view` may be set anew before an epoch.

        Raises:
            ValueError: there are not as many samples as labels.

        """
        if samples is not None and len(samples) != len(labels):
            raise ValueError(f"{len(samples):,} samples, and soft labels of {len(labels):,}")
        self.labels = labels
        self.samples = samples
        self.view = view

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self):,}")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several items at once, as PyTorch's fetcher asks for them."""
        logits = torch.from_numpy(self.labels.batch(np.asarray(indices), self.view))
        if self.samples is None:
            return list(logits)
        return [(self.samples[index], row) for index, row in zip(indices, logits, strict=True)]
