"""How logits are stored: dense or the largest k of a row, as float32, float16 or bytes with a scale a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from distill_queue.shared.catalog import Dtype
from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.soft_labels.numerics import (
    LARGEST_SMALL,
    SHARE_16,
    SHARE_32,
    SMALLEST_NORMAL_16,
    Array,
    Floats,
    cast_finite,
    largest_logits,
    log_sum_exp,
    log_sums,
    outside_logit,
    require_finite,
    share_of,
    to_bytes,
)


@dataclass(frozen=True, slots=True)
class Column:
    """A raw little-endian file `<name>.bin`, `[views, samples, width]`."""

    name: str
    dtype: np.dtype[Any]
    width: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * self.width


class Encoding(BaseModel):
    """A way to store rows of logits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype
    #: How many of a row's largest logits are kept; None keeps all.
    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None

    @property
    def name(self) -> str:
        """The encoding in a few words."""
        return self.dtype if self.top_k is None else f"top {self.top_k} {self.dtype}"

    def columns(self, classes: int) -> tuple[Column, ...]:
        """The columns that store rows of logits of so many classes.

        Raises:
            InvalidInput: there are not more classes than are to be kept.

        """
        scales = (Column("scales", np.dtype("<f4"), 2),) if self.dtype == "uint8" else ()
        values = np.dtype(self.dtype).newbyteorder("<")
        if self.top_k is None:
            return Column("logits", values, classes), *scales
        if self.top_k >= classes:
            raise InvalidInput(f"soft_labels.top_k: {self.top_k} of {classes} classes: leave it out to keep all")
        return (
            Column("indices", _index_type(classes), self.top_k),
            Column("values", values, self.top_k),
            Column("log_sum_exp", np.dtype("<f4"), 2),
            *scales,
        )

    def row_bytes(self, classes: int) -> int:
        """Bytes of a sample in one view."""
        return sum(column.row_bytes for column in self.columns(classes))

    def encode(self, logits: Array) -> tuple[Array, ...]:
        """The columns of some rows `[rows, classes]`, float32 or, for a dense float16, float16 already.

        Raises:
            InvalidInput: a logit is not finite, or does not fit.

        """
        columns = self.columns(logits.shape[1])
        if self.top_k is None and self.dtype != "uint8":
            return (cast_finite(logits, columns[0].dtype),)
        require_finite(logits, LARGEST_SMALL if self.dtype != "float32" else np.inf)
        logits = logits.astype(np.float32, copy=False)
        if self.top_k is None:
            return to_bytes(logits)
        indices, kept = largest_logits(logits, self.top_k)
        sums = log_sums(logits, indices, kept)
        values = to_bytes(kept) if self.dtype == "uint8" else (cast_finite(kept, columns[1].dtype),)
        return indices.astype(columns[0].dtype), values[0], sums, *values[1:]

    def decode(self, columns: tuple[Array, ...], classes: int) -> Floats:
        """Logits `[rows, classes]`, float32, of what was stored.

        All classes outside the top k get one and the same logit, so that together they have the probability that the
        teacher gives them at temperature 1, to float32's rounding.
        """
        kept = self.kept(columns)
        if self.top_k is None:
            return kept
        indices, _, sums, *_ = columns
        logits = np.repeat(outside_logit(kept, sums, classes)[:, None], classes, axis=1)
        np.put_along_axis(logits, indices.astype(np.int64), kept, axis=1)
        return logits

    def rounding(self, columns: tuple[Array, ...]) -> npt.NDArray[np.float64]:
        """The largest error `[rows]` of a stored logit that this encoding can have made."""
        if self.dtype == "float32":
            return np.zeros(len(columns[0]))
        largest = np.abs(self.kept(columns)).max(axis=1).astype(np.float64)
        if self.dtype == "float16":
            # The rounded one may be the smaller: a share of what it was before.
            return np.maximum(largest * SHARE_16 * (1 + SHARE_16), SMALLEST_NORMAL_16 * SHARE_16)
        return columns[-1][:, 1] / 2.0 + largest * SHARE_32 + np.finfo(np.float32).tiny

    def kept(self, columns: tuple[Array, ...]) -> Floats:
        """The logits that are stored, `[rows, classes or top_k]`, float32."""
        stored = columns[0 if self.top_k is None else 1]
        if self.dtype != "uint8":
            return stored.astype(np.float32, copy=False)
        scales = columns[-1]
        return stored.astype(np.float32) * scales[:, 1:] + scales[:, :1]


@dataclass(frozen=True, slots=True)
class OutsideMass:
    """Probability `[rows]`, float64, of all classes outside the top k together: bounds, and what `decode` gives."""

    low: npt.NDArray[np.float64]
    estimate: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def outside_mass(encoding: Encoding, columns: tuple[Array, ...], classes: int, temperature: float) -> OutsideMass:
    """The probability of the classes outside the top k at a temperature: exact at 1, bounded elsewhere.

    What is known of the n classes outside: the sum S of their exp(logit), and that none exceeds the smallest logit
    that is kept, c. Of all such logits, the sum of exp(logit / T) is extreme where all are equal, n (S / n)^(1/T), and
    where as many as possible are c and one has the rest. x^(1/T) is concave above T = 1 and convex below it: the first
    is the largest there and the smallest here.
    """
    indices, _, sums, *_ = columns
    kept = encoding.kept(columns).astype(np.float64)
    everything, odds = sums[:, 0].astype(np.float64), sums[:, 1].astype(np.float64)
    outside = everything - np.logaddexp(0.0, -odds)
    exact = share_of(odds)
    others = classes - indices.shape[1]
    fill = outside_logit(kept.astype(np.float32), sums, classes).astype(np.float64)
    top = log_sum_exp(kept / temperature)
    estimate = share_of(np.log(others) + fill / temperature - top)
    if temperature == 1.0:
        return OutsideMass(exact, exact, exact)
    error = encoding.rounding(columns)
    margin = SHARE_32 * np.maximum(1.0, np.maximum(np.abs(everything), np.abs(outside)))
    even = np.log(others) + (outside - np.log(others)) / temperature
    cap = kept[:, -1] + error
    towards_bound = -margin if temperature > 1.0 else margin
    at_cap = np.exp(np.minimum(outside - cap + towards_bound, np.log(others)))  # So many would make the whole sum.
    full = np.floor(at_cap)
    uneven = cap / temperature + np.log(full + (at_cap - full) ** (1.0 / temperature))
    low, high = (uneven, even) if temperature > 1.0 else (even, uneven)
    slack = error / temperature + margin
    low_share, high_share = share_of(low - top - slack), share_of(high - top + slack)
    return OutsideMass(np.minimum(low_share, estimate), estimate, np.maximum(high_share, estimate))


def _index_type(classes: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every class."""
    return np.min_scalar_type(classes - 1).newbyteorder("<")
