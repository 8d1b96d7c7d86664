"""Soft labels as files: bytes a sample, and the time to write them. A part of `python -m benchmarks.labels`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.label_extents import (
    CLASSES,
    DENSE_8,
    DENSE_16,
    DENSE_32,
    TOP_10,
    TOP_50,
    TOP_50_8,
    Extent,
    table_of,
    written_labels,
)
from benchmarks.label_formats import Cache, TorchFiles, files, header, linear_teacher, others
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array


def sizes(folder: Path, extent: Extent) -> Iterator[Table]:
    """Bytes a sample."""
    table = table_of(f"Bytes a sample, of {extent.sized:,}", *(f"{each:,} classes" for each in CLASSES))
    rows: dict[str, list[str]] = {}
    for classes in CLASSES:
        logits = linear_teacher(extent.sized, classes)
        ours = [Cache(each) for each in (DENSE_16, DENSE_32, DENSE_8, TOP_10, TOP_50, TOP_50_8)]
        base = 0.0
        for form in (*ours, *others()):
            size, on_disk = 0.0, 0.0
            if not isinstance(form, Cache) or (form.encoding.top_k or 0) < classes:
                with written_labels(form, folder, logits) as (place, samples, _):
                    size = sum(each.st_size for each in files(place)) / samples
                    on_disk = sum(each.st_blocks * 512 for each in files(place)) / samples
            base = base or size
            rows.setdefault(form.name, []).append(f"{size:,.1f} ({size / base:.2f}x)" if size else "")
            if isinstance(form, TorchFiles):
                rows.setdefault("  its blocks on disk", []).append(f"{on_disk:,.1f} ({on_disk / base:.2f}x)")
    for name, row in rows.items():
        table.add_row(name, *row)
    table.caption = "sizes of all files over samples, without folders · x: times dense float16"
    yield table


def writing(folder: Path, extent: Extent) -> Iterator[Table]:
    """Seconds of all blocks, and of blocks and seal, in turn with a plain write of the same bytes."""
    import torch

    logits = linear_teacher(extent.written, CLASSES[-1])
    columns = ("MB", "plain s", "blocks s", "", "and seal s", "", "plain, synced", "and seal, synced", "", "x")
    table = table_of(
        f"{extent.written:,} samples of 1,000 classes, medians of {extent.rounds} rounds in turn", *columns
    )
    base = 0.0
    for name, encoding, given in (
        ("dense float16 of float16", DENSE_16, torch.from_numpy(logits).half().numpy()),
        ("dense float16 of float32", DENSE_16, logits),
        ("dense float32", DENSE_32, logits),
        ("dense uint8", DENSE_8, logits),
        ("top 50 float16", TOP_50, logits),
    ):
        cells, seconds = _writing_cells(encoding, folder, given, extent.rounds)
        base = base or seconds
        size = extent.written * encoding.row_bytes(CLASSES[-1])
        table.add_row(name, f"{size / 1e6:,.0f}", *cells, f"{seconds / base:.1f}")
    for form in others():
        times = []
        for _ in range(min(3, extent.rounds)):
            with written_labels(form, folder, logits) as (place, samples, seconds):
                times.append(seconds * extent.written / samples)
                size = sum(each.st_size for each in files(place)) * extent.written // samples
        seconds = median(times)
        table.add_row(form.name, f"{size / 1e6:,.0f}", *[""] * 3, f"{seconds:.3f}", *[""] * 4, f"{seconds / base:.1f}")
    table.caption = (
        "%: plain over ours, wanted 70 for the first · seal: reads all back · synced: each file with fsync last · "
        "x: times the first, sealed · "
        f"a file a sample: of {TorchFiles().most:,}, times so many more"
    )
    yield table


def _writing_cells(encoding: Encoding, folder: Path, logits: Array, rounds: int) -> tuple[list[str], float]:
    """Seconds of writes beside plain ones; in the end those of blocks and seal without fsync."""
    facts = header(encoding, *logits.shape)
    encoded = [encoding.encode(logits[facts.rows_of(block)[1]]) for block in range(facts.blocks)]
    cells, medians = [], []
    for sync in (False, True):
        triples = [
            (plain_seconds(encoded, folder, sync=sync), *_cache_seconds(encoding, folder, logits, sync=sync))
            for _ in range(rounds)
        ]
        plain, blocks, sealed = (median(each) for each in zip(*triples, strict=True))
        cells.append(f"{plain:.3f}")
        if not sync:
            cells += [f"{blocks:.3f}", f"{median(a / b for a, b, _ in triples):.0%}"]
        cells += [f"{sealed:.3f}", f"{median(a / c for a, _, c in triples):.0%}"]
        medians.append(sealed)
    return cells, medians[0]


def _cache_seconds(encoding: Encoding, folder: Path, logits: Array, *, sync: bool) -> tuple[float, float]:
    """Seconds until all blocks are written, and until they are sealed, and on the disk."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        started = time.perf_counter()
        writer = Cache(encoding).write_blocks(Path(name), logits)
        blocks = time.perf_counter() - started
        labels = writer.seal()
        for path in labels.folder.iterdir() if sync else ():
            _sync(path)
        return blocks, time.perf_counter() - started


def plain_seconds(encoded: Iterable[tuple[Array, ...]], folder: Path, *, sync: bool) -> float:
    """Seconds to write blocks one after the other to a new file; what makes them is not counted."""
    path, seconds = folder / "plain.bin", 0.0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for block in encoded:
        started = time.perf_counter()
        for column in block:
            if os.write(descriptor, column.data) != column.nbytes:
                raise SystemExit(f"error: {path}: a short write: the disk is full")
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)
    seconds += time.perf_counter() - started
    path.unlink()
    return seconds


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
