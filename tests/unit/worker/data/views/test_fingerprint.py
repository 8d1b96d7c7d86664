"""Fingerprints of views: what is stored beside soft labels."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.fingerprint import header_facts


def test_views_have_the_fingerprint_that_stored_labels_have() -> None:
    # As of version 0.1: if it changes, all labels of augmented views that are stored have to be computed again.
    facts = header_facts(AugmentationSpec(shift=2, flip=True, cutout=3, mixup=0.4, seed=7), 4)

    assert facts == {
        "augmentation": {"shift": 2, "flip": True, "cutout": 3, "mixup": 0.4, "seed": 7},
        "augmentation_fingerprint": "626c06c6f9fe958c6e64f1faf5ac77d5",
    }


@pytest.mark.parametrize(
    "change",
    [{"crop": {}}, {"crop": {"area": [0.5, 1.0]}}, {"jitter": {"hue": 0.1}}, {"rotation": 3}, {"cutmix": 0.2}],
)
def test_what_else_is_done_is_part_of_the_fingerprint(change: dict[str, Any]) -> None:
    without, other = (
        header_facts(AugmentationSpec(flip=True), 4),
        AugmentationSpec.model_validate({"flip": True} | change),
    )

    assert header_facts(other, 4)["augmentation_fingerprint"] != without["augmentation_fingerprint"]
    assert header_facts(other, 4)["augmentation"].keys() - without["augmentation"].keys() == change.keys()
