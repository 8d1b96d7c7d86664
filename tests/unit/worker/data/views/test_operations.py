"""The table of operations: each field of a spec has its line, and numbers of its own."""

from __future__ import annotations

from collections import Counter

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.operations import BLENDS, OPERATIONS, PARTNER


def test_every_field_of_a_spec_is_done() -> None:
    assert {each.field for each in (*OPERATIONS, *BLENDS)} == set(AugmentationSpec.model_fields) - {"seed"}


def test_no_two_operations_share_a_random_number() -> None:
    places = Counter(place for each in (*OPERATIONS, *BLENDS) for place in each.places) + Counter(PARTNER)

    assert set(places.values()) == {1}


def test_the_numbers_of_what_was_there_first_have_kept_their_places() -> None:
    places = {each.field: each.places for each in (*OPERATIONS, *BLENDS)}

    first = [places["shift"], places["flip"], places["cutout"], PARTNER, places["mixup"]]
    assert [list(each) for each in first] == [[0, 1], [2], [3, 4], [5], [6]]
