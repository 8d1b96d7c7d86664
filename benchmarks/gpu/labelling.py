"""Labelling: a teacher's logits on all samples, as the worker computes them and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.section import Part, Row, Section, Setting
from benchmarks.gpu.steps import MODELS, random_split, record_of
from benchmarks.gpu.timing import seconds_of
from distill_queue.shared.soft_labels.cache import block_rows
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker import models
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation.quality import BATCH
from distill_queue.worker.stages.soft_labels import logits_of_rows

SAMPLES, SMALL_SAMPLES = 16_384, 256
#: Rows of a forward pass: as the worker, and as many as a card may like.
BATCHES = (BATCH, 8_192)


def measure(setting: Setting) -> Iterator[Part]:
    """Label random samples with each model, precision by precision."""
    for name, spec, shape in MODELS[:3] if setting.dry else MODELS:
        record = record_of(shape)
        split = random_split(record, SMALL_SAMPLES if setting.dry else SAMPLES, setting.device)
        teacher = models.build(spec, record, setting.runtime, 0).eval()
        batch_sizes = BATCHES[:1] if setting.dry else BATCHES
        with torch.inference_mode():
            exact = _logits(teacher, split, BATCH, torch.float32)
            for dtype in (torch.float32, torch.bfloat16):
                other = _logits(teacher, split, BATCH, dtype)
                for batch_size in batch_sizes:
                    row: Row = {
                        "teacher": name,
                        "precision": str(dtype).removeprefix("torch."),
                        "rows a pass": batch_size,
                        "samples/s": len(split) / seconds_of(_pass(teacher, split, batch_size, dtype), setting.device),
                    }
                    error = (other - exact).abs().max() / exact.abs().max()
                    yield row | {"largest error, of the largest logit": f"{error.item():.1e}"}
    yield (
        "Samples lie in the device's memory; the logits are moved to the machine's, as float16. The worker labels in "
        f"float32, {BATCH:,} rows a pass or a block's ({block_rows(10):,} rows of 10 classes)."
    )


def _pass(teacher: torch.nn.Module, split: Split, batch_size: int, dtype: torch.dtype) -> Callable[[], object]:
    return lambda: _logits(teacher, split, batch_size, dtype).half().cpu()


def _logits(teacher: torch.nn.Module, split: Split, batch_size: int, dtype: torch.dtype) -> torch.Tensor:
    """Logits `[samples, classes]`, float32, of a teacher whose matrix products are of some type."""
    batches = Batches(split, AugmentationSpec(), 1, torch.float32, prepare=False)
    parts = []
    for start in range(0, len(split), batch_size):
        inputs = batches.inputs(slice(start, min(start + batch_size, len(split))), 0)
        with torch.autocast(split.device.type, dtype, enabled=dtype != torch.float32):
            parts.append(logits_of_rows(teacher, inputs).float())
    return torch.cat(parts)


SECTION = Section("labelling", "Labelling", 40.0, measure)
