"""Ceilings: what the device itself does, so that all else can be a share of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks.gpu.section import Part, Row, Section, Setting
from benchmarks.gpu.timing import seconds_of

#: Rows, inner dimension and columns: of the MLP 512-256 at two batches, and squares.
SHAPES = ((256, 784, 512), (4_096, 784, 512), (2_048,) * 3, (8_192,) * 3)
SMALL_SHAPES = ((256, 784, 512), (256,) * 3)
PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: On the device, and to it: more than a cache holds.
COPY_BYTES, HOST_COPY_BYTES, SMALL_COPY_BYTES = 2**30, 2**28, 2**22
#: The column in which other sections find the ceilings of their precision.
RATE = "TFLOP/s"


def measure(setting: Setting) -> Iterator[Part]:
    """Matrix products by precision and shape, then copies."""
    for precision, dtype in PRECISIONS.items():
        if precision in ("tf32", "float16") and setting.device_type == "cpu":
            continue
        for shape in SMALL_SHAPES if setting.dry else SHAPES:
            yield _product(precision, dtype, shape, setting.device)
    yield from _copies(setting)
    if setting.device_type == "cuda":
        allowed = {
            "matrix products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        }
        tf32 = " and ".join(name for name, on in allowed.items() if on) or "nothing"
        yield f"Of what is called float32 below, torch computes {tf32} in tf32, by its own default."


def peaks(rows: list[Row]) -> dict[str, float]:
    """The most operations a second of each precision, of this section's rows."""
    found: dict[str, float] = {}
    for row in rows:
        precision = str(row.get("precision", ""))
        if precision:
            found[precision] = max(found.get(precision, 0.0), float(row[RATE]) * 1e12)
    return found


def _product(precision: str, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> Row:
    rows, inner, columns = shape
    one = torch.randn(rows, inner, device=device).to(dtype)
    other = torch.randn(inner, columns, device=device).to(dtype)
    result = torch.empty(rows, columns, device=device, dtype=dtype)
    with _tf32(allowed=precision == "tf32"):
        seconds = seconds_of(lambda: torch.mm(one, other, out=result), device)
    rate = 2 * rows * inner * columns / seconds
    return {
        "what": f"product {rows:,} x {inner:,} x {columns:,}",
        "precision": precision,
        "ms": seconds * 1e3,
        RATE: rate / 1e12,
    }


@contextmanager
def _tf32(*, allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _copies(setting: Setting) -> Iterator[Row]:
    """Copies on the device, counting what is read and written, and from the machine's memory to it."""
    size, device = SMALL_COPY_BYTES if setting.dry else COPY_BYTES, setting.device
    source, there = (torch.randint(0, 256, (size,), dtype=torch.uint8, device=device) for _ in range(2))
    seconds = seconds_of(lambda: there.copy_(source), device)
    yield _copy(f"{size / 2**20:,.0f} MiB on the device", seconds, 2 * size)
    size = SMALL_COPY_BYTES if setting.dry else HOST_COPY_BYTES
    there = there[:size]
    for pin in (False, True) if setting.device_type == "cuda" else (False,):
        here = torch.randint(0, 256, (size,), dtype=torch.uint8)
        here = here.pin_memory() if pin else here
        seconds = seconds_of(partial(there.copy_, here, non_blocking=pin), device)
        memory = "pinned" if pin else "pageable"
        yield _copy(f"{size / 2**20:,.0f} MiB to the device from {memory} memory", seconds, size)


def _copy(what: str, seconds: float, moved_bytes: int) -> Row:
    return {"what": f"copy of {what}", "ms": seconds * 1e3, "GB/s": moved_bytes / seconds / 1e9}


SECTION = Section("ceilings", "Ceilings", 40.0, measure)
