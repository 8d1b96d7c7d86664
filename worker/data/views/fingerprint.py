"""Fingerprints: what soft labels remember of the views that they are of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.generator import draw, states

#: Raised by one when the same random numbers come to mean other pixels.
VERSION = 1
#: Samples whose random numbers are part of a fingerprint, and the places of these numbers.
SAMPLES = 64
PLACES = range(7)


def fingerprint(spec: AugmentationSpec, views: int) -> str:
    """A hash of what is done, and of random numbers that it is done by; nothing where samples are seen as they are.

    Views with the same fingerprint have the same pixels: it tells views of another version apart.
    """
    if spec.changes_nothing:
        return ""
    samples = torch.arange(SAMPLES)
    numbers = torch.stack([draw(states(spec.seed, view, samples), PLACES) for view in (0, views - 1)])
    done = json.dumps([VERSION, spec.model_dump(mode="json"), views], sort_keys=True)
    return hashlib.sha256(done.encode() + numbers.numpy().tobytes()).hexdigest()[:32]


def header_facts(spec: AugmentationSpec, views: int) -> dict[str, Any]:
    """What the header of soft labels says of the labelled views: no augmentation if samples are not changed."""
    augmentation = {} if spec.changes_nothing else spec.model_dump(mode="json")
    return {"augmentation": augmentation, "augmentation_fingerprint": fingerprint(spec, views)}
