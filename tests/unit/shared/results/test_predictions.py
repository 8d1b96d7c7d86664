"""Predictions: written, read, counted and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.results.predictions import CONFIDENCES, PREDICTIONS, Predictions
from distill_queue.worker.evaluation import quality

TARGETS = np.array([0, 0, 1, 1, 2, 2])


def predictions(*classes: int, confidences: tuple[float, ...] = ()) -> Predictions:
    sure = confidences or (0.9,) * len(classes)
    return Predictions(np.array(classes, np.uint8), np.array(sure, np.float32))


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])

    quality.predictions(logits).write(tmp_path)
    found = Predictions.read(tmp_path / PREDICTIONS, tmp_path / CONFIDENCES)

    assert (found.classes.dtype, found.confidences.dtype) == (np.uint8, np.float32)
    assert found.classes.tolist() == [1, 0]
    np.testing.assert_allclose(found.confidences, [0.665241, 0.909443], rtol=1e-5)


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16), (70_000, np.uint32)])
def test_a_class_takes_the_smallest_type_that_holds_all(classes: int, dtype: type) -> None:
    found = quality.predictions(torch.eye(classes)[-2:]) if classes < 1000 else quality.predictions(
        torch.zeros(2, classes).index_fill_(1, torch.tensor([classes - 1]), 9.0)
    )  # fmt: skip

    assert found.classes.dtype == dtype
    assert found.classes[-1] == classes - 1


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)))
def test_a_confusion_counts_every_sample_once(given: tuple[list[int], list[int]]) -> None:
    targets, classes = np.array(given[0]), given[1]

    found = predictions(*classes).confusion(targets, 5)

    assert found.sum(1).tolist() == np.bincount(targets, minlength=5).tolist()
    assert found.sum(0).tolist() == np.bincount(classes, minlength=5).tolist()
    assert np.trace(found) == predictions(*classes).hits(targets).sum()


def test_first_come_the_disagreements_of_which_both_are_sure() -> None:
    teacher = predictions(0, 1, 2, 0, confidences=(0.9, 0.6, 0.99, 0.8))
    student = predictions(1, 0, 2, 1, confidences=(0.5, 0.9, 0.99, 0.7))

    assert teacher.unlike(student).tolist() == [3, 1, 0]
