"""Which rows a member learns from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.worker.data.split import Split
from distill_queue.worker.training.epochs.pools import pool_of


def split(*targets: int) -> Split:
    labels = torch.tensor(targets)
    inputs = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    return Split(inputs, labels, torch.tensor([0.0]), torch.tensor([1.0]), labelled=int((labels >= 0).sum()))


def rows(data: Split, classes: tuple[int, ...] | None = None, **how: bool) -> list[list[int]] | None:
    pool = pool_of(data, classes, **({"distilled": False, "by_class": False} | how))
    return None if pool is None else [group.tolist() for group in pool]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [[0, 1, 3, 4]]),
        ({"distilled": True}, None),
        ({"by_class": True}, [[1], [0, 4], [3]]),
    ],
)
def test_without_a_teacher_labelled_rows_are_learned_from(how: dict[str, Any], expected: list[list[int]]) -> None:
    assert rows(split(1, 0, -1, 3, 1), **how) == expected


def test_rows_of_some_classes_are_one_group_or_a_group_each() -> None:
    data = split(1, 0, 2, 1, 0)

    assert rows(data, (0, 1), distilled=True) == [[0, 1, 3, 4]]
    assert rows(data, (0, 1), distilled=True, by_class=True) == [[1, 4], [0, 3]]
    assert rows(data, (2, 3), by_class=True) == [[2]], "class 3 has no sample to be shown"


def test_a_student_cannot_see_classes_equally_often_whose_samples_it_does_not_know() -> None:
    with pytest.raises(InvalidSpec, match=r"training\.sampling: some training samples have no label"):
        rows(split(0, 1, -1), distilled=True, by_class=True)
