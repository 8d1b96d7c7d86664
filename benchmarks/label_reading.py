"""Shuffled minibatches of soft labels. A part of `python -m benchmarks.labels`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.label_extents import (
    BATCHES,
    CLASSES,
    DENSE_8,
    DENSE_16,
    DENSE_32,
    IMAGENET,
    TOP_50,
    Extent,
    table_of,
    written_labels,
)
from benchmarks.label_formats import Cache, Indices, linear_teacher, others
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.soft_labels.writer import LABELS

#: Seconds after which an epoch is cut off.
PATIENCE = 1.0


def reading(folder: Path, extent: Extent) -> Iterator[Table]:
    """Shuffled minibatches, in turn with copies of as many bytes.

    A copy is of a piece of an array that is as large as what is read from, piece after piece, to one place: neither
    has more in the processor's caches than the other. Of 10 classes, that is 26 MB.
    """
    for classes in CLASSES:
        samples = min(extent.read // classes, IMAGENET)
        logits = linear_teacher(samples, classes)
        columns = [
            f"{name}, {size:,}" if name == "µs" else name for size in BATCHES for name in ("µs", "GB/s", "of copy")
        ]
        table = table_of(f"Shuffled minibatches of {samples:,} samples of {classes:,} classes", "open ms", *columns)
        for form in (Cache(DENSE_16), Cache(DENSE_32), Cache(DENSE_8), Cache(TOP_50), *others(reading=True)):
            if isinstance(form, Cache) and (form.encoding.top_k or 0) >= classes:
                continue
            with written_labels(form, folder, logits) as (place, kept, _):
                started = time.perf_counter()
                read = form.open(place)
                opened = f"{(time.perf_counter() - started) * 1e3:.1f}"
                if isinstance(form, Cache):
                    stored, row = SoftLabels.open(place / LABELS).stored, form.encoding.row_bytes(classes)
                    table.add_row(f"{form.name}, stored", opened, *_reading_cells(stored, kept, row, extent.rounds))
                table.add_row(form.name, opened, *_reading_cells(read, kept, classes * 4, extent.rounds))
        table.caption = (
            f"of copy: a copy's time over its own, of the same bytes: those stored, else float32 logits · "
            f"medians of {extent.rounds} epochs after another one, each cut off after {PATIENCE:g} s · "
            "wanted: 50 % of copy for dense float16, stored, of 1,000 classes at 4,096"
        )
        yield table


def _reading_cells(read: Callable[[Indices], Any], samples: int, row_bytes: int, rounds: int) -> list[str]:
    cells = []
    source = np.ones(samples * row_bytes, np.uint8)
    for size in BATCHES:
        pairs = [
            (epoch_seconds(read, samples, size, seed), _copy_seconds(source, size * row_bytes))
            for seed in range(rounds + 1)
        ][1:]  # The first maps the pages.
        seconds, share = median(a for a, _ in pairs), median(b / a for a, b in pairs)
        cells += [f"{seconds * 1e6:,.0f}", f"{size * row_bytes / seconds / 1e9:.2f}", f"{share:.1%}"]
    return cells


def epoch_seconds(read: Callable[[Indices], Any], samples: int, size: int, seed: int, most: float = PATIENCE) -> float:
    """Seconds of a minibatch, in the mean of an epoch or of its beginning."""
    order = np.random.default_rng(seed).permutation(samples)
    started, batches = time.perf_counter(), 0
    for start in range(0, samples - size + 1, size):
        read(order[start : start + size])
        batches += 1
        if time.perf_counter() - started > most:
            break
    return (time.perf_counter() - started) / batches


def _copy_seconds(source: Array, size_bytes: int) -> float:
    """Seconds to copy a piece of so many bytes, in the mean over all of them."""
    place = np.zeros(size_bytes, np.uint8)
    started, pieces = time.perf_counter(), len(source) // size_bytes
    for start in range(0, pieces * size_bytes, size_bytes):
        np.copyto(place, source[start : start + size_bytes])
    return (time.perf_counter() - started) / pieces
