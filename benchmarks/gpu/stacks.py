"""Stacks: students of one shape that are trained as one, against one alone."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.section import Part, Section, Setting
from benchmarks.gpu.steps import GREY, STUDENT, random_split, record_of, samples_for
from benchmarks.limits import KD, Phase, training_of

SIZES, SMALL_SIZES = (1, 16, 64, 256), (1, 16)
BATCHES, SMALL_BATCHES = (64, 256), (16,)
#: Times one alone that a stack may cost.
GOALS = {16: 2.0, 256: 8.0}


def measure(setting: Setting) -> Iterator[Part]:
    """Time stacks of MLPs 128, distilled."""
    record = record_of(GREY)
    for batch_size in SMALL_BATCHES if setting.dry else BATCHES:
        alone = 0.0
        for size in SMALL_SIZES if setting.dry else SIZES:
            samples, epochs = (2 * batch_size, 1) if setting.dry else samples_for(batch_size, GREY)
            split = random_split(record, samples, setting.device)
            phase = Phase(f"{size} MLPs 128", STUDENT, batch_size, samples, KD, stacked=size)
            train = training_of(phase, KD, split, record, setting.runtime, setting.folder, epochs)
            train()
            seconds = min(train() for _ in range(2))
            alone = alone or seconds
            goal = GOALS.get(size)
            yield {
                "students": size,
                "batch": batch_size,
                "ms a step of all": seconds * 1e3,
                "times one": seconds / alone,
                "goal": f"{goal:g}" if goal else "",
                "met": "" if goal is None else "yes" if seconds <= goal * alone else "no",
                "samples/s of all": size * batch_size / seconds,
            }


SECTION = Section("stacks", "Stacks of students", 40.0, measure)
