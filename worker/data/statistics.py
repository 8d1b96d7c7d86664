"""Statistics: mean and deviation of each channel of the inputs, and warnings of channels that are odd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from distill_queue.shared.line import listed, shortened
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data import checks as data_checks
from distill_queue.worker.data.split import pieces

#: Part of its mean that a channel's deviation must pass to be more than float32's rounding, which is 6e-8 of a value.
ROUNDING = 1e-6
#: Deviations by which a view's zeros may differ from the mean before a warning says so.
FAR = 100.0
#: Deviations from the mean that no value is, unless its channel hardly varies: of n training values none is more than
#: sqrt(n) deviations away, a 1 in a million zeros 1,000.
TOO_FAR = 10_000.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation of each channel of the training inputs; none of tokens and flags.

    Signed integers are tokens, and booleans are flags.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    #: Of columns, where channels are such; else warnings count them.
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: Array, rows: Array, names: tuple[str, ...] = ()) -> Self:
        """Those of some rows, by pieces: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance."""
        if inputs.dtype.kind in "ib":
            return cls((), ())
        axes = (0, *range(2, inputs.ndim))
        # A square of what float32 holds may be more than it holds.
        dtype = np.float64 if inputs.dtype.kind == "f" else np.float32
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for place in pieces(inputs[: len(rows)]):
            piece = torch.from_numpy(inputs[rows[place]].astype(dtype, order="C"))
            variance, piece_mean = (each.double() for each in torch.var_mean(piece, dim=axes, correction=0))
            deviation, both = piece_mean - mean, count + len(piece)
            squares = squares + variance * len(piece) + deviation.square() * (count * len(piece) / both)
            mean = mean + deviation * (len(piece) / both)
            count = both
        return cls(tuple(mean.reshape(-1).tolist()), tuple((squares / count).sqrt().reshape(-1).tolist()), names)

    @property
    def constant(self) -> list[int]:
        """The channels that are constant, as far as float32 can tell."""
        smallest = float(np.finfo(np.float32).tiny)
        return [
            channel
            for channel, (mean, deviation) in enumerate(zip(self.mean, self.deviation, strict=True))
            if deviation <= max(ROUNDING * abs(mean), smallest)
        ]

    @property
    def scale(self) -> tuple[float, ...]:
        """What each channel is divided by: its deviation, and a constant one by its value or 1, whichever is larger.

        Otherwise a value that is not the constant would explode: one in the test set, or the zeros of shift and
        cutout, which become -1 this way. (scikit-learn's scalers divide by 1, and know no such zeros.)
        """
        scale = list(self.deviation)
        for channel in self.constant:
            scale[channel] = max(1.0, abs(self.mean[channel]), scale[channel])
        return tuple(scale)

    def warnings(self, *, images: bool) -> Iterator[DataWarning]:
        """Warnings of constant channels, and of channels in which the zeros of image views are far from all values."""
        if constant := self.constant:
            value = f" (always {self.mean[constant[0]]:g})" if len(constant) == 1 else ""
            text = f"{self._named(constant)} constant{value} in the training samples, to a millionth"
            yield DataWarning(kind="constant_channels", text=f"{text}: nothing is learned from what does not vary")
        distance = [abs(mean / scale) for mean, scale in zip(self.mean, self.scale, strict=True)]
        far = [channel for channel in range(len(distance)) if distance[channel] > FAR and channel not in constant]
        if images and far:
            furthest = max(far, key=lambda channel: distance[channel])
            text = f"{self._named(far)} nearly constant: what shift and cutout set to 0 is"
            text = f"{text} {distance[furthest]:,.0f} deviations from the mean of {self.mean[furthest]:g}"
            yield DataWarning(kind="nearly_constant_channels", text=text)

    def far_values(self, *splits: Array) -> Iterator[DataWarning]:
        """Warnings of channels with values so far from the mean that nothing beside them counts."""
        if not self.mean:
            return
        furthest = [(0.0, 0.0)] * len(self.mean)
        for inputs in splits:
            axes = (0, *range(2, inputs.ndim))
            for rows in pieces(inputs):
                for ends in (inputs[rows].min(axis=axes), inputs[rows].max(axis=axes)):
                    ends = np.atleast_1d(ends)  # A single value a sample has no dimension for channels.
                    distances = np.abs(ends.astype(np.float64) - self.mean) / self.scale
                    found = zip(distances.tolist(), ends.tolist(), strict=True)
                    furthest = [max(pair) for pair in zip(furthest, found, strict=True)]
        if far := [channel for channel, (distance, _) in enumerate(furthest) if distance > TOO_FAR]:
            distance, value = max(furthest)
            text = f"{self._named(far)} up to {distance:,.0f} deviations from the training samples' mean"
            way = "leave the column out" if self.names else "leave the channel out, or return its logarithm or its rank"
            hint = f"nothing beside such a value counts: {way}"
            yield DataWarning(kind="far_values", text=f"{text} (a value of {value:g}): {hint}")

    def _named(self, some: list[int]) -> str:
        """Some of the channels, the first ones by name or number, as the subject of a sentence with its verb."""
        noun, names = "channel", list(map(str, some))
        if self.names:
            noun, names = "column", [repr(shortened(self.names[each], data_checks.LONGEST_NAME)) for each in some]
        if len(some) == 1:
            return f"{noun} {names[0]} of {len(self.mean):,} is"
        return f"{len(some):,} of {len(self.mean):,} {noun}s ({listed(names, data_checks.MOST_NAMED)}) are"
