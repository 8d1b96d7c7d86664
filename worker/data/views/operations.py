"""The operations of a view, in the order in which they are done, and the places of their random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from distill_queue.shared.spec.augmentation import MOST_OPERATIONS
from distill_queue.worker.data.views import crop as crops
from distill_queue.worker.data.views.colour import grayscale, jitter
from distill_queue.worker.data.views.crop import crop
from distill_queue.worker.data.views.cutmix import cut_mix
from distill_queue.worker.data.views.cutout import cut_out
from distill_queue.worker.data.views.flip import flip
from distill_queue.worker.data.views.mixup import mix_up
from distill_queue.worker.data.views.rand_augment import rand_augment
from distill_queue.worker.data.views.rotation import rotate
from distill_queue.worker.data.views.shift import shift

#: The place of the number that chooses a partner.
PARTNER = range(5, 6)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done to images, if the field of the spec says so."""

    field: str
    #: Of its numbers in a sample's stream. A new operation takes places behind all others, which stay what they are.
    places: range
    #: From images as stored or float32, random numbers `[places, batch]`, the field's value and the value of white.
    #: The images may be changed in place.
    apply: Callable[[torch.Tensor, torch.Tensor, Any, float], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Blend:
    """What puts a partner into each image, if the field of the spec says so."""

    field: str
    places: range
    #: From views, their partners' views, random numbers and the field's value: images, and the partners' shares.
    apply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, torch.Tensor]]


#: What is done to an image, in this order.
OPERATIONS = (
    Operation("crop", range(7, 7 + crops.NUMBERS), crop),
    Operation("shift", range(2), shift),
    Operation("flip", range(2, 3), flip),
    Operation("rotation", range(29, 30), rotate),
    Operation("rand_augment", range(38, 38 + 2 * MOST_OPERATIONS), rand_augment),
    Operation("jitter", range(30, 34), jitter),
    Operation("grayscale", range(34, 35), grayscale),
    Operation("cutout", range(3, 5), cut_out),
)
#: At most one of these comes last.
BLENDS = (
    Blend("mixup", range(6, 7), mix_up),
    Blend("cutmix", range(35, 38), cut_mix),
)
