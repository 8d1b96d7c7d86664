"""Soft labels of ImageNet's size, in processes of their own. A part of `python -m benchmarks.labels`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.label_extents import BATCHES, CLASSES, DENSE_16, IMAGENET, ROOT, TOP_50, Extent, Figures, table_of
from benchmarks.label_formats import Indices, files, header, linear_teacher
from benchmarks.label_reading import epoch_seconds
from benchmarks.label_writing import plain_seconds
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.writer import LABELS, SoftLabelsWriter

#: Rows that are made at scale; the labels are these, turned by some classes in each block.
TABLE_ROWS = 4_096
#: Seconds from one look at a process's memory to the next.
WATCH = 0.005


def scale(folder: Path, extent: Extent) -> Iterator[Table]:
    """Labels of ImageNet's size, written and read by processes of their own.

    Peaks of memory are the kernel's (VmHWM; `ru_maxrss` would have the parent's in it) and that of anonymous memory,
    looked at every 5 ms. The former counts mapped pages of the labels too, of which the kernel takes back any it needs.
    """
    table = table_of(
        f"{extent.scaled:,} samples of 1,000 classes, each step in a process of its own",
        "dense float16",
        "top 50 float16",
    )
    results = []
    for encoding in (DENSE_16, TOP_50):
        place = str(folder / str(encoding.top_k))
        written = _child(does="write", folder=place, encoding=encoding.model_dump(), samples=extent.scaled)
        for size in BATCHES:
            opened = [_child(does="open", folder=place, size=size)["seconds"] for _ in range(extent.rounds)]
            written[f"first {size}"] = median(opened)
        results.append(written | _child(does="read", folder=place))
        shutil.rmtree(place)
    for name, key, unit, text in (
        ("size, GB (wanted: top 50 ≤ 0.35)", "size", 1e9, ".3f"),
        ("making the logits, s (not in the following)", "making", 1.0, ".2f"),
        ("writing all blocks, s", "writing", 1.0, ".2f"),
        ("sealing, s", "sealing", 1.0, ".2f"),
        ("plain write of the same bytes, s", "plain", 1.0, ".2f"),
        ("plain write, share of writing", "share", 0.01, ".1f %"),
        ("plain write, share of writing and sealing", "share_sealed", 0.01, ".1f %"),
        ("writing: peak of anonymous memory, MB (wanted ≤ 500)", "write_anonymous", 1e6, ",.0f"),
        ("writing: peak of resident memory, MB", "write_resident", 1e6, ",.0f"),
        ("open to first batch of 256, ms (wanted < 10)", "first 256", 1e-3, ".1f"),
        ("open to first batch of 4,096, ms (wanted < 10)", "first 4096", 1e-3, ".1f"),
        ("first shuffled epoch as stored, batches of 4,096, s", "stored", 1.0, ".2f"),
        ("second, s", "stored_again", 1.0, ".2f"),
        ("shuffled epoch as float32 logits, s", "decoded", 1.0, ".2f"),
        ("reading: peak of anonymous memory, MB (wanted ≤ 500)", "read_anonymous", 1e6, ",.0f"),
        ("reading: peak of resident memory, mapped pages too, MB", "read_resident", 1e6, ",.0f"),
    ):
        suffix = " %" if text.endswith("%") else ""
        table.add_row(name, *(f"{each[key] / unit:{text.removesuffix(' %')}}{suffix}" for each in results))
    yield table


def write_at_scale(folder: str, encoding: dict[str, Any], samples: int) -> Figures:
    """Write labels block by block and seal them; then write the same bytes plainly."""
    classes, chosen = CLASSES[-1], Encoding.model_validate(encoding)
    rows = linear_teacher(TABLE_ROWS, classes).astype("float16" if chosen == DENSE_16 else "float32")
    making = writing = 0.0
    os.sync()  # The kernel slows down who writes while much is still to go to disk: nothing is, here and below.
    with _watched() as memory:
        started = time.perf_counter()
        writer = SoftLabelsWriter.begin(Path(folder), header(chosen, samples, classes))
        writing += time.perf_counter() - started
        for block in range(writer.header.blocks):
            before = time.perf_counter()
            _, place = writer.header.rows_of(block)
            logits = np.roll(rows[: place.stop - place.start], 7 * block, axis=1)
            made = time.perf_counter()
            writer.write(block, logits)
            making, writing = making + made - before, writing + time.perf_counter() - made
        started = time.perf_counter()
        labels = writer.seal()
        sealing = time.perf_counter() - started
    os.sync()
    plain = plain_seconds(map(labels.block, range(labels.header.blocks)), Path(folder), sync=False)
    labels.folder.rename(Path(folder) / LABELS)
    return {
        "size": sum(each.st_size for each in files(Path(folder) / LABELS)),
        "making": making,
        "writing": writing,
        "sealing": sealing,
        "plain": plain,
        "share": plain / writing,
        "share_sealed": plain / (writing + sealing),
        "write_anonymous": memory["anonymous"],
        "write_resident": memory["resident"],
    }


def open_at_scale(folder: str, size: int) -> Figures:
    """Seconds from opening labels to their first batch, in a process that has opened none before."""
    indices = np.random.default_rng(0).integers(IMAGENET, size=size) % _samples(folder)
    started = time.perf_counter()
    SoftLabels.open(Path(folder) / LABELS).stored(indices)
    return {"seconds": time.perf_counter() - started}


def _samples(folder: str) -> int:
    return int(json.loads((Path(folder) / LABELS / "soft_labels.json").read_text())["samples"])


def read_at_scale(folder: str) -> Figures:
    """Two shuffled epochs of rows as they are stored, and one of logits."""
    with _watched() as memory:
        labels, size = SoftLabels.open(Path(folder) / LABELS), BATCHES[-1]
        batches = len(labels) // size
        readers: tuple[Callable[[Indices], Any], ...] = (labels.stored, labels.stored, labels.batch)
        first, second, decoded = (
            batches * epoch_seconds(read, len(labels), size, seed, most=float("inf"))
            for seed, read in enumerate(readers)
        )
    return {
        "stored": first,
        "stored_again": second,
        "decoded": decoded,
        "read_anonymous": memory["anonymous"],
        "read_resident": memory["resident"],
    }


def _child(**task: Any) -> Figures:
    command = [sys.executable, "-m", "benchmarks.labels", "--child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"error: {task['does']}: {done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextmanager
def _watched() -> Iterator[Figures]:
    """Peaks of this process's memory in bytes, known at the end: anonymous, and all that is resident."""
    peaks, done = {"anonymous": 0.0, "resident": 0.0}, threading.Event()

    def watch() -> None:
        while not done.wait(WATCH):
            peaks["anonymous"] = max(peaks["anonymous"], _memory("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        peaks["resident"] = _memory("VmHWM")


def _memory(name: str) -> float:
    """Bytes that Linux gives under a name for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
