"""Numerics: how rows of logits are rounded, cut to their largest, and summed; no format is known here."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities `[rows, classes]`, float32, of logits at a temperature."""
    scaled = logits / np.float32(temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def cast_finite(logits: Array, dtype: np.dtype[Any]) -> Array:
    """Cast logits to a floating type; refuse those that are not finite in it."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(logits, dtype=dtype)
    if dtype.itemsize == 4:
        require_finite(cast, np.inf)
    # Looks at the bits: NumPy has no fast float16. Infinities and NaNs have the largest of either sign.
    elif cast.view(np.int16).max() >= 0x7C00 or cast.view(np.uint16).max() >= 0xFC00:
        require_finite(logits, LARGEST_SMALL)
        raise InvalidInput(_too_large())  # Between the largest float16 and what rounds to infinity.
    return cast


def require_finite(logits: Array, largest: float) -> None:
    """Refuse logits if one is not finite, or larger than what can be stored.

    Raises:
        InvalidInput: the message says which of the two.

    """
    low, high = logits.min(initial=0.0), logits.max(initial=0.0)  # NaN where there is one.
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("soft labels: a logit is not finite: look at the teacher")
    if max(-low, high) > largest:
        raise InvalidInput(_too_large())


def _too_large() -> str:
    return f"soft labels: a logit is beyond ±{LARGEST_SMALL:,.0f}: use soft_labels: {{dtype: float32}}"


def to_bytes(logits: Floats) -> tuple[Array, Array]:
    """Bytes, and the scales `[rows, 2]`: each row's smallest logit, and the step from one byte to the next."""
    scales = np.empty((len(logits), 2), dtype="<f4")
    scales[:, 0] = logits.min(axis=1)
    scales[:, 1] = (logits.max(axis=1) - scales[:, 0]) / STEPS
    steps = np.where(scales[:, 1:] > 0.0, scales[:, 1:], np.float32(1.0))
    codes = (logits - scales[:, :1]) / steps
    return np.rint(codes, out=codes).clip(0, STEPS).astype(np.uint8), scales


def largest_logits(logits: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
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

    It partitions whole numbers: the upper half is a logit's place among the floats, the lower half its class.
    """
    bits = np.ascontiguousarray(logits + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0.
    places = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    classes = np.arange(logits.shape[1], dtype=np.int64)
    keys = (places.astype(np.int64) << 32) | (0xFFFFFFFF - classes)
    indices: npt.NDArray[np.int64] = 0xFFFFFFFF - (np.partition(keys, -k, axis=1)[:, -k:] & 0xFFFFFFFF)
    return indices


def log_sums(logits: Floats, indices: npt.NDArray[np.int64], kept: Floats) -> Floats:
    """Log-sum-exp `[rows]` of all classes, and the log-odds of those that are not kept; `[rows, 2]`, sums in float64.

    As float32, log-odds are as exact for a small rest as for a large one, and for logits of any size.
    """
    highest = kept[:, :1]
    with np.errstate(over="ignore"):  # What is that far below the highest is nothing beside it.
        exponentials = np.exp(logits - highest)
    # The others are summed: to subtract what is kept from the whole would leave nothing of a small rest.
    np.put_along_axis(exponentials, indices, 0.0, axis=1)
    outside = exponentials.sum(axis=1, dtype=np.float64)
    inside_log = np.log(np.exp(kept.astype(np.float64) - highest).sum(axis=1))
    with np.errstate(divide="ignore"):
        outside_log = np.log(outside)
    far = outside < np.finfo(np.float32).tiny * logits.shape[1] / SHARE_32
    if far.any():  # So far below that float32 has little or nothing left of them.
        rest = logits[far].astype(np.float64)
        np.put_along_axis(rest, indices[far], -np.inf, axis=1)
        outside_log[far] = log_sum_exp(rest) - highest[far, 0]
    everything = np.logaddexp(inside_log, outside_log) + highest[:, 0]
    return np.stack([everything, outside_log - inside_log], axis=1).astype("<f4")


def outside_logit(kept: Floats, sums: Array, classes: int) -> Floats:
    """The one logit `[rows]` that stands for each class outside the top k.

    It preserves the odds of inside and outside as they were before the kept logits were rounded.
    """
    fill = log_sum_exp(kept.astype(np.float64)) + sums[:, 1].astype(np.float64) - np.log(classes - kept.shape[1])
    # What is kept must stay above the others: float32's rounding may not bring these up to it.
    return np.minimum(fill.astype(np.float32), np.nextafter(kept[:, 0], np.float32(-np.inf)))


def log_sum_exp(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`log(sum(exp(logits)))` of each row, `[rows]`, in float64."""
    highest = logits.max(axis=1)
    return highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))


def share_of(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The probabilities of these log-odds."""
    return np.exp(-np.logaddexp(0.0, -log_odds))
