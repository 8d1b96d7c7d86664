"""Tables of caches of soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # These load numpy or Celery, which a list of pipelines does without.
    import numpy as np
    import numpy.typing as npt

    from distill_queue.scheduler.labels.caches import Cache
    from distill_queue.scheduler.labels.checks import Check
    from distill_queue.shared.soft_labels.numerics import Floats


def cache_table(cache: Cache) -> Table:
    """What a cache holds, and how good its labels are."""
    header, record = cache.labels.header, cache.record
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    names = header.class_names
    shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    raw = header.views * header.samples * header.classes * 4
    rows = {
        "folder": str(cache.labels.folder),
        "rows": f"{header.samples:,} samples x {header.views:,} views",
        "classes": f"{header.classes:,}: {shown}",
        "stored as": f"{header.encoding.name}, {header.encoding.row_bytes(header.classes):,} bytes a row",
        "size": f"{header.size_bytes / 1e6:,.1f} MB, {header.size_bytes / raw:.0%} of float32",
        "data set": header.dataset_key or "not known",
        "teacher": header.teacher_key or "not known",
        "views": _augmentation(header.augmentation) or "as they are",
    }
    if record:
        rows["accuracy"] = f"{record.accuracy:.2%} of the samples with a label"
    if record and record.confidence is not None:
        rows["confidence"] = f"{record.confidence:.2%} on average"
    if record and record.calibration_error is not None:
        rows["calibration"] = (
            f"off by {100 * record.calibration_error:.2f} points (expected calibration error, 15 bins)"
        )
    if record and record.entropy is not None:
        rows["entropy"] = f"{record.entropy:.4f} nats on average, at temperature 1"
    for name, value in rows.items():
        table.add_row(Text(name, "dim"), value)
    return table


def _augmentation(values: Mapping[str, Any]) -> str:
    """What makes views, in words: `shift 1, crop (area 0.35 to 1.0, ratio 0.75 to 1.333)`."""

    def word(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({_augmentation(value)})"
        return " to ".join(map(str, value)) if isinstance(value, list) else str(value)

    return ", ".join(f"{name} {word(value)}" for name, value in values.items())


def check_line(check: Check) -> Text:
    """A line about one check of a cache."""
    marks = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "yellow")}
    return Text.assemble(marks[check.passed], f" {check.name}: {check.detail}")


def head_table(
    probabilities: Floats, targets: npt.NDArray[np.integer[Any]], names: tuple[str, ...], kept: int
) -> Table:
    """The most probable classes in each row of probabilities `[rows, classes]`, of those kept, beside the label."""
    shown = min(3, kept)
    table = Table()
    table.add_column("sample", justify="right")
    for name in ("label", *("first", "second", "third")[:shown], "others"):
        table.add_column(name)
    for sample, (row, target) in enumerate(zip(probabilities, targets, strict=True)):
        order = (-row).argsort(kind="stable")
        first = (f"{names[index]} {row[index]:.2%}" for index in order[:shown])
        label = names[target] if target >= 0 else ""
        table.add_row(str(sample), label, *first, f"{row[order[shown:]].sum():.2%}")
    return table
