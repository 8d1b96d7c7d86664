"""Schedules: the learning rate of a step, as a pure function."""

from __future__ import annotations

import math

from distill_queue.shared.spec.training import TrainingSpec

#: Of a one-cycle schedule: share of the steps in which the rate rises, and by what it starts and ends below its peak.
RISE, START, END = 0.3, 25.0, 250_000.0


def factor(training: TrainingSpec, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in step `step`, counted from 0, of `steps`.

    `one_cycle`: a rise and a fall, both half a cosine (Smith and Topin 2018, with torch's defaults);
    `cosine`: half a cosine down to 0 (Loshchilov and Hutter 2017, without restarts); `polynomial`: a power of the share
    that is left; `step`: `gamma` for each milestone that is passed; `constant`: 1.
    """
    if training.schedule == "one_cycle":
        rise = RISE * steps
        if step < rise:
            return _cosine(1 / START, 1.0, step / rise)
        return _cosine(1.0, 1 / END, (step - rise) / max(1.0, steps - 1 - rise))
    warmup = training.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    match training.schedule:
        case "cosine":
            return _cosine(1.0, 0.0, (step - warmup) / (steps - warmup))
        case "polynomial":
            return float((1.0 - (step - warmup) / (steps - warmup)) ** training.power)
        case "step":
            epoch = step * training.epochs // steps
            return float(training.gamma ** sum(milestone <= epoch for milestone in training.milestones))
    return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine, as `share` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2
