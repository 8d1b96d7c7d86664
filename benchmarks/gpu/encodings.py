"""Encodings: soft labels decoded on the device, batch by batch, and whether they are what NumPy makes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.section import Part, Section, Setting
from benchmarks.gpu.timing import seconds_of
from benchmarks.label_extents import DENSE_8, DENSE_16, DENSE_32, TOP_10, TOP_50, TOP_50_8
from benchmarks.label_formats import Cache, linear_teacher
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.writer import LABELS
from distill_queue.worker.data.teacher_logits import TeacherLogits

CLASSES, SMALL_CLASSES = (10, 100, 1_000), (10, 100)
SAMPLES, SMALL_SAMPLES = 8_192, 256
BATCHES, SMALL_BATCHES = (256, 4_096), (64,)


def measure(setting: Setting) -> Iterator[Part]:
    """Time a batch of each encoding by classes."""
    for classes in SMALL_CLASSES if setting.dry else CLASSES:
        logits = linear_teacher(SMALL_SAMPLES if setting.dry else SAMPLES, classes)
        for encoding in (DENSE_32, DENSE_16, DENSE_8, TOP_10, TOP_50, TOP_50_8):
            if encoding.top_k is not None and encoding.top_k >= classes:
                continue
            folder = Path(tempfile.mkdtemp(dir=setting.folder))
            Cache(encoding).write(folder, logits)
            labels = SoftLabels.open(folder / LABELS)
            there = TeacherLogits.of(labels, setting.device)
            for batch_size in SMALL_BATCHES if setting.dry else BATCHES:
                rows = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))[:batch_size]
                moved = rows.to(setting.device)

                def decode(there: TeacherLogits = there, moved: torch.Tensor = moved) -> torch.Tensor:
                    return there.logits(there.take(moved, 0, setting.device))

                with torch.inference_mode():
                    error = np.abs(decode().float().cpu().numpy() - labels.batch(rows.numpy())).max()
                    seconds = seconds_of(decode, setting.device)
                yield {
                    "encoding": Cache(encoding).name,
                    "classes": classes,
                    "batch": batch_size,
                    "µs a batch": seconds * 1e6,
                    "samples/s": batch_size / seconds,
                    "largest difference from NumPy": f"{error:.1e}",
                }


SECTION = Section("encodings", "Decoding soft labels", 30.0, measure)
