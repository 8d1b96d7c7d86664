"""The soft-label cache against the machine's limits and against what people use.

Bytes a sample, writing, shuffled minibatches, ImageNet's size in processes of their own, and the accuracy that
students keep with each encoding. The logits are those of a random linear teacher (`linear_teacher`), always the same.
A limit is a plain write of the same bytes, or a copy of as many. Files are in the page cache when they are read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.label_formats import Cache, Format, Indices, TorchFiles, files, header, linear_teacher, others
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.soft_labels.writer import LABELS, SoftLabelsWriter

ROOT = Path(__file__).parents[1]
DENSE_32, DENSE_16, DENSE_8 = Encoding(dtype="float32"), Encoding(dtype="float16"), Encoding(dtype="uint8")
TOP_10, TOP_50 = Encoding(dtype="float16", top_k=10), Encoding(dtype="float16", top_k=50)
TOP_50_8 = Encoding(dtype="uint8", top_k=50)
IMAGENET = 1_281_167
CLASSES = (10, 100, 1_000)
BATCHES = (256, 4_096)
#: Rows that are made at scale; the labels are these, turned by some classes in each block.
TABLE_ROWS = 4_096
#: Seconds after which an epoch is cut off.
PATIENCE = 1.0
#: Seconds from one look at a process's memory to the next.
WATCH = 0.005
#: Where Debian's package has Fashion-MNIST.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    rounds: int
    #: Samples that sizes are taken of.
    sized: int
    #: Samples of 1,000 classes that are written.
    written: int
    #: Logits that are read from, in no more samples than ImageNet has.
    read: int
    #: Samples of 1,000 classes at scale.
    scaled: int
    #: Seeds of a student, and epochs.
    seeds: int
    epochs: int


FULL = Extent(rounds=5, sized=20_000, written=131_072, read=131_072_000, scaled=IMAGENET, seeds=5, epochs=5)
QUICK = Extent(rounds=3, sized=2_000, written=8_192, read=8_192_000, scaled=40_960, seeds=2, epochs=1)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    sections = {"sizes": sizes, "writing": writing, "reading": reading, "scale": scale, "accuracy": accuracies}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels")
    parser.add_argument("--quick", action="store_true", help="little of each, to try it out")
    parser.add_argument("--only", choices=sections, help="one section")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files are written")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        children: dict[str, Callable[..., Figures]] = {
            "write": write_at_scale,
            "open": open_at_scale,
            "read": read_at_scale,
        }
        print(json.dumps(children[options.child.pop("does")](**options.child)))
        return
    extent = QUICK if options.quick else FULL
    _require_room(options.folder, extent)
    for name in [options.only] if options.only else sections:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="labels-") as folder:
            _print(sections[name](Path(folder), extent))


def _require_room(folder: Path, extent: Extent) -> None:
    """End where the disk has no room for what is there at once: labels at scale and a copy, or float32 and a copy."""
    if not folder.is_dir():
        raise SystemExit(f"error: {folder} is no folder")
    samples = max(extent.scaled, 2 * extent.written)
    needed = int(2.2 * samples * DENSE_16.row_bytes(CLASSES[-1])) + 2**28
    if (free := shutil.disk_usage(folder).free) < needed:
        raise SystemExit(f"error: {folder} has {free / 1e9:.1f} GB free of {needed / 1e9:.1f} GB needed: use --folder")


def sizes(folder: Path, extent: Extent) -> Iterator[Table]:
    """Bytes a sample."""
    table = _table(f"Bytes a sample, of {extent.sized:,}", *(f"{each:,} classes" for each in CLASSES))
    rows: dict[str, list[str]] = {}
    for classes in CLASSES:
        logits = linear_teacher(extent.sized, classes)
        ours = [Cache(each) for each in (DENSE_16, DENSE_32, DENSE_8, TOP_10, TOP_50, TOP_50_8)]
        base = 0.0
        for form in (*ours, *others()):
            size, on_disk = 0.0, 0.0
            if not isinstance(form, Cache) or (form.encoding.top_k or 0) < classes:
                with _written(form, folder, logits) as (place, samples, _):
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
    table = _table(f"{extent.written:,} samples of 1,000 classes, medians of {extent.rounds} rounds in turn", *columns)
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
            with _written(form, folder, logits) as (place, samples, seconds):
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
            (_plain_seconds(encoded, folder, sync=sync), *_cache_seconds(encoding, folder, logits, sync=sync))
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


def _plain_seconds(encoded: Iterable[tuple[Array, ...]], folder: Path, *, sync: bool) -> float:
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
        table = _table(f"Shuffled minibatches of {samples:,} samples of {classes:,} classes", "open ms", *columns)
        for form in (Cache(DENSE_16), Cache(DENSE_32), Cache(DENSE_8), Cache(TOP_50), *others(reading=True)):
            if isinstance(form, Cache) and (form.encoding.top_k or 0) >= classes:
                continue
            with _written(form, folder, logits) as (place, kept, _):
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
            (_epoch_seconds(read, samples, size, seed), _copy_seconds(source, size * row_bytes))
            for seed in range(rounds + 1)
        ][1:]  # The first maps the pages.
        seconds, share = median(a for a, _ in pairs), median(b / a for a, b in pairs)
        cells += [f"{seconds * 1e6:,.0f}", f"{size * row_bytes / seconds / 1e9:.2f}", f"{share:.1%}"]
    return cells


def _epoch_seconds(read: Callable[[Indices], Any], samples: int, size: int, seed: int, most: float = PATIENCE) -> float:
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


def scale(folder: Path, extent: Extent) -> Iterator[Table]:
    """Labels of ImageNet's size, written and read by processes of their own.

    Peaks of memory are the kernel's (VmHWM; `ru_maxrss` would have the parent's in it) and that of anonymous memory,
    looked at every 5 ms. The former counts mapped pages of the labels too, of which the kernel takes back any it needs.
    """
    table = _table(
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
    plain = _plain_seconds(map(labels.block, range(labels.header.blocks)), Path(folder), sync=False)
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
            batches * _epoch_seconds(read, len(labels), size, seed, most=float("inf"))
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


def accuracies(folder: Path, extent: Extent) -> Iterator[Table]:
    """Accuracy of students with each encoding of one teacher's logits, and how far it is from float32's."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spec.pipeline import PipelineSpec
    from distill_queue.worker.evaluation.scores import estimate

    dataset = "fashion_mnist" if FASHION_MNIST.exists() and extent is FULL else "mnist_5k"
    kinds: list[dict[str, Any]] = [{"dtype": dtype} for dtype in ("float32", "float16", "uint8")]
    kinds += [{"dtype": "float16", "top_k": k} for k in (5, 3, 1)]
    title = f"Student MLP 128 of teacher MLP 512-256 on {dataset}, T 4, alpha 0.9, {extent.seeds} seeds"
    table = _table(title, "accuracy", "to float32")
    base: list[float] = []
    with LocalStack(Settings(store=str(folder)), workers=1) as stack:
        client = PipelineClient(stack.settings)
        for kind in kinds:
            pipeline = client.submit(PipelineSpec.model_validate(_spec(dataset, kind, extent))).id
            for _ in client.watch(pipeline):
                pass
            score = client.results(pipeline).scores.students[0]
            accuracy = [run.student.accuracy for run in score.runs]
            base = base or accuracy
            difference = estimate([ours - theirs for ours, theirs in zip(accuracy, base, strict=True)])
            name = Encoding.model_validate(kind).name
            table.add_row(name, _interval(score.accuracy, ".2%"), _interval(difference, "+.2%"))
    table.caption = "mean ± half of the 95 % interval over the seeds; differences are of the same seed"
    yield table


def _spec(dataset: str, soft_labels: dict[str, Any], extent: Extent) -> dict[str, Any]:
    training = {"epochs": extent.epochs, "batch_size": 256, "learning_rate": 1e-3}
    return {
        "name": "labels",
        "dataset": {"name": dataset},
        "teacher": {"model": {"name": "mlp", "hidden": [512, 256]}, "training": training},
        "soft_labels": soft_labels,
        "students": [
            {
                "name": "small",
                "model": {"name": "mlp", "hidden": [128]},
                "distillation": {"temperature": 4.0, "alpha": 0.9},
                "training": training,
                "seeds": extent.seeds,
            }
        ],
        "evaluation": {"control": False},
    }


def _interval(estimate: Any, text: str) -> str:
    half = f" ± {(estimate.high - estimate.low) / 2:.2%}" if estimate.low is not None else ""
    return f"{estimate.mean:{text}}{half}"


@contextmanager
def _written(form: Format, folder: Path, logits: Array) -> Iterator[tuple[Path, int, float]]:
    """A folder in which logits are kept for as long, how many samples of them, and the seconds that it took."""
    kept = logits[: form.most]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        started = time.perf_counter()
        form.write(place, kept)
        yield place, len(kept), time.perf_counter() - started


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, min_width=len(title))
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left")
    return table


def _print(tables: Iterable[Table]) -> None:
    console = Console(width=120)
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
