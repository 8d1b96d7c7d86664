"""Streaming: students whose samples and labels stay on the disk, through pinned memory, against those in the card's."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.section import Part, Section, Setting
from benchmarks.gpu.steps import MODELS
from benchmarks.limits import KD, Phase, step_of
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

BATCHES, SMALL_BATCHES = (256, 1_024, 4_096), (64,)


def measure(setting: Setting) -> Iterator[Part]:
    """Time an epoch over the digits of each model, both ways."""
    runtime = Runtime(setting.device, downloads=setting.mnist)
    (packed := setting.folder / "packed").mkdir()
    record = load.load(NamedDatasetSpec(name="mnist"), Reading(runtime)).save(packed)
    samples = min(record.train_samples, 61_440)
    for name, spec, _ in MODELS[1:3]:
        for batch_size in SMALL_BATCHES if setting.dry else BATCHES:
            seconds = {}
            for streamed in (False, True):
                phase = Phase(name, spec, batch_size, samples, KD, streamed=streamed)
                step = step_of(phase, packed, record, runtime)
                step()
                seconds[streamed] = min(step() for _ in range(1 if setting.dry else 2))
            yield {
                "model": name,
                "batch": batch_size,
                "ms a step, in memory": seconds[False] * 1e3,
                "ms a step, streamed": seconds[True] * 1e3,
                "speed kept": f"{seconds[False] / seconds[True]:.0%}",
                "samples/s streamed": batch_size / seconds[True],
            }


SECTION = Section("streaming", "Streaming against memory", 40.0, measure)
