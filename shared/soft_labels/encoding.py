"""How logits are stored: dense or the largest k of a row, as float32, float16 or bytes with a scale a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from distill_queue.shared.catalog import Dtype
from distill_queue.shared.errors import InvalidInput

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

#: Largest logit that float16 and uint8 hold.
LARGEST_SMALL = 65_504.0
#: Steps of a byte from a row's smallest stored logit to its largest.
STEPS = 255
#: Rounding of float16, as a share of a logit; below `SMALLEST_NORMAL_16` its spacing is fixed.
SHARE_16 = 2.0**-11
SMALLEST_NORMAL_16 = 2.0**-14
#: Rounding of float32 sums and products on the way to a byte and back, as a share of the row's largest logit.
SHARE_32 = 2.0**-21


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
        """What is stored of rows of so many classes.

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
            return (_cast(logits, columns[0].dtype),)
        _require_finite(logits, LARGEST_SMALL if self.dtype != "float32" else np.inf)
        logits = logits.astype(np.float32, copy=False)
        if self.top_k is None:
            return _to_bytes(logits)
        indices, kept = _largest(logits, self.top_k)
        sums = _log_sums(logits, indices, kept)
        values = _to_bytes(kept) if self.dtype == "uint8" else (_cast(kept, columns[1].dtype),)
        return indices.astype(columns[0].dtype), values[0], sums, *values[1:]

    def decode(self, columns: tuple[Array, ...], classes: int) -> Floats:
        """Logits `[rows, classes]`, float32, of what was stored.

        Of a class outside the top k: what it has if all of these are equal; the probability of all of them together is
        then the teacher's at temperature 1, to float32's rounding.
        """
        kept = self.kept(columns)
        if self.top_k is None:
            return kept
        indices, _, sums, *_ = columns
        logits = np.repeat(_outside(kept, sums, classes)[:, None], classes, axis=1)
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
    exact = _share(odds)
    others = classes - indices.shape[1]
    fill = _outside(kept.astype(np.float32), sums, classes).astype(np.float64)
    top = _log_sum_exp(kept / temperature)
    estimate = _share(np.log(others) + fill / temperature - top)
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
    low_share, high_share = _share(low - top - slack), _share(high - top + slack)
    return OutsideMass(np.minimum(low_share, estimate), estimate, np.maximum(high_share, estimate))


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities `[rows, classes]`, float32, of logits at a temperature."""
    scaled = logits / np.float32(temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def _index_type(classes: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every class."""
    return np.min_scalar_type(classes - 1).newbyteorder("<")


def _cast(logits: Array, dtype: np.dtype[Any]) -> Array:
    """Logits in a floating type, all finite."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(logits, dtype=dtype)
    if dtype.itemsize == 4:
        _require_finite(cast, np.inf)
    # Looks at the bits: NumPy has no fast float16. Infinities and NaNs have the largest of either sign.
    elif cast.view(np.int16).max() >= 0x7C00 or cast.view(np.uint16).max() >= 0xFC00:
        _require_finite(logits, LARGEST_SMALL)
        raise InvalidInput(_too_large())  # Between the largest float16 and what rounds to infinity.
    return cast


def _require_finite(logits: Array, largest: float) -> None:
    low, high = logits.min(initial=0.0), logits.max(initial=0.0)  # NaN where there is one.
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("soft labels: a logit is not finite: look at the teacher")
    if max(-low, high) > largest:
        raise InvalidInput(_too_large())


def _too_large() -> str:
    return f"soft labels: a logit is beyond ±{LARGEST_SMALL:,.0f}: use soft_labels: {{dtype: float32}}"


def _to_bytes(logits: Floats) -> tuple[Array, Array]:
    """Bytes, and the scales `[rows, 2]`: each row's smallest logit, and the step from one byte to the next."""
    scales = np.empty((len(logits), 2), dtype="<f4")
    scales[:, 0] = logits.min(axis=1)
    scales[:, 1] = (logits.max(axis=1) - scales[:, 0]) / STEPS
    steps = np.where(scales[:, 1:] > 0.0, scales[:, 1:], np.float32(1.0))
    codes = (logits - scales[:, :1]) / steps
    return np.rint(codes, out=codes).clip(0, STEPS).astype(np.uint8), scales


def _largest(logits: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Indices and values `[rows, k]` of the largest logits, in falling order, of equal ones the first."""
    rows, classes = logits.shape
    smallest = np.partition(logits, -k, axis=1)[:, -k, None]
    chosen = logits >= smallest
    tied = chosen.sum(axis=1) > k  # More than k are no smaller than the k-th.
    if tied.any():
        of_tied = np.zeros_like(chosen[tied])
        np.put_along_axis(of_tied, _first_of_equals(logits[tied], k), True, axis=1)
        chosen[tied] = of_tied
    indices = np.flatnonzero(chosen).reshape(rows, k) % classes
    kept = np.take_along_axis(logits, indices, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(kept, order, axis=1)


def _first_of_equals(logits: Floats, k: int) -> npt.NDArray[np.int64]:
    """Indices `[rows, k]` of the largest logits, in no order, of equal ones the first.

    Partitions whole numbers that have a logit's place among the floats in their upper half and its class in the lower.
    """
    bits = np.ascontiguousarray(logits + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0.
    places = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    classes = np.arange(logits.shape[1], dtype=np.int64)
    keys = (places.astype(np.int64) << 32) | (0xFFFFFFFF - classes)
    indices: npt.NDArray[np.int64] = 0xFFFFFFFF - (np.partition(keys, -k, axis=1)[:, -k:] & 0xFFFFFFFF)
    return indices


def _log_sums(logits: Floats, indices: npt.NDArray[np.int64], kept: Floats) -> Floats:
    """Log-sum-exp `[rows]` of all classes, and the log-odds of those that are not kept; `[rows, 2]`, sums in float64.

    As float32, log-odds are as exact for a small rest as for a large one, whatever the size of the logits.
    """
    highest = kept[:, :1]
    with np.errstate(over="ignore"):  # What is that far below the highest is nothing beside it.
        exponentials = np.exp(logits - highest)
    # Summed over the others, not by taking away what is kept, which would leave nothing of a small rest.
    np.put_along_axis(exponentials, indices, 0.0, axis=1)
    outside = exponentials.sum(axis=1, dtype=np.float64)
    inside_log = np.log(np.exp(kept.astype(np.float64) - highest).sum(axis=1))
    with np.errstate(divide="ignore"):
        outside_log = np.log(outside)
    far = outside < np.finfo(np.float32).tiny * logits.shape[1] / SHARE_32
    if far.any():  # So far below that float32 has little or nothing left of them.
        rest = logits[far].astype(np.float64)
        np.put_along_axis(rest, indices[far], -np.inf, axis=1)
        outside_log[far] = _log_sum_exp(rest) - highest[far, 0]
    everything = np.logaddexp(inside_log, outside_log) + highest[:, 0]
    return np.stack([everything, outside_log - inside_log], axis=1).astype("<f4")


def _outside(kept: Floats, sums: Array, classes: int) -> Floats:
    """The logit `[rows]` of each class that is not kept, if all of them are equal.

    It keeps the odds of inside and outside as they were before what is kept was rounded.
    """
    fill = _log_sum_exp(kept.astype(np.float64)) + sums[:, 1].astype(np.float64) - np.log(classes - kept.shape[1])
    # Of equals, what is kept stays the first: float32's rounding may not bring the others up to it.
    return np.minimum(fill.astype(np.float32), np.nextafter(kept[:, 0], np.float32(-np.inf)))


def _log_sum_exp(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    highest = logits.max(axis=1)
    return highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))


def _share(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probability of what has these log-odds."""
    return np.exp(-np.logaddexp(0.0, -log_odds))
