"""Names beside the points of a figure."""

from __future__ import annotations

import numpy as np
import pytest

from distill_queue.shared.report.point_names import free_place, overlaps


@pytest.mark.parametrize("place", [(15.0, 15.0), (385.0, 15.0), (15.0, 185.0), (200.0, 100.0)])
def test_a_name_lies_within_the_axes_and_on_nothing_else(place: tuple[float, float]) -> None:
    taken = np.array([[x - 5, y - 5, x + 5, y + 5] for x, y in (place, (200.0, 90.0), (230.0, 100.0))])

    box, line = free_place(np.array(place), np.array([120.0, 14.0]), taken, taken[:0], np.array([0.0, 0, 400, 200]))

    assert (box[:2] >= 0).all()
    assert (box[2:] <= [400, 200]).all()
    assert not overlaps(box, taken).any()
    assert line[0].tolist() == list(place)
