"""The soft-label cache against the machine's limits and against what people use.

Bytes a sample, writing, shuffled minibatches, ImageNet's size in processes of their own, and the accuracy that
students keep with each encoding. The logits are those of a random linear teacher (`linear_teacher`), always the same.
A limit is a plain write of the same bytes, or a copy of as many. Files are in the page cache when they are read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.label_accuracy import accuracies
from benchmarks.label_extents import CLASSES, DENSE_16, FULL, QUICK, Extent, Figures
from benchmarks.label_reading import reading
from benchmarks.label_scale import open_at_scale, read_at_scale, scale, write_at_scale
from benchmarks.label_writing import sizes, writing


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


def _print(tables: Iterable[Table]) -> None:
    console = Console(width=120)
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    main()
