"""Calibration: computed by hand, in parts, and of soft labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.predictions import Predictions
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.statistics import LabelStatistics
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.worker.evaluation import quality


def predictions(*classes: int, confidences: tuple[float, ...] = ()) -> Predictions:
    sure = confidences or (0.9,) * len(classes)
    return Predictions(np.array(classes, np.uint8), np.array(sure, np.float32))


def test_the_calibration_error_is_the_mean_distance_of_confidence_from_accuracy() -> None:
    # Bin 13 (from 0.867): three samples, mean confidence 0.9, two hits; bin 6 (from 0.4): one of 0.45, a hit.
    found = predictions(0, 0, 0, 1, confidences=(0.9, 0.9, 0.9, 0.45)).calibration(np.array([0, 0, 1, 1]))

    assert (found.samples[13], found.hits[13], found.samples[6]) == (3, 2, 1)
    assert found.accuracy == 0.75
    assert found.error == pytest.approx((3 * abs(2 / 3 - 0.9) + abs(1 - 0.45)) / 4, abs=1e-6)


@given(arrays.arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32)), st.data())
def test_calibrations_of_parts_add_up_to_that_of_the_whole(confidences: np.ndarray, data: st.DataObject) -> None:
    hits = np.array(data.draw(st.lists(st.booleans(), min_size=len(confidences), max_size=len(confidences))))
    cut = data.draw(st.integers(0, len(confidences)))

    whole = Calibration.of(confidences, hits)
    parts = Calibration.of(confidences[:cut], hits[:cut]) + Calibration.of(confidences[cut:], hits[cut:])

    assert parts.error == pytest.approx(whole.error, abs=1e-6)
    assert 0 <= whole.error <= 1
    assert whole.accuracy == hits.mean()


def test_the_calibration_of_a_teacher_is_that_of_its_soft_labels(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    targets = np.random.default_rng(1).integers(0, 4, 50)
    names = tuple("abcd")
    header = SoftLabelsHeader(
        views=1, samples=50, class_names=names, encoding=Encoding(dtype="float32"), block_rows=50,
        dataset_key="d" * 64, teacher_key="e" * 64,
    )  # fmt: skip
    writer = SoftLabelsWriter.begin(tmp_path / "labels", header)
    writer.write(0, logits)

    of_labels = LabelStatistics.of(writer.seal(), targets)
    of_predictions = quality.predictions(torch.from_numpy(logits)).calibration(targets)

    assert of_predictions.error == pytest.approx(of_labels.calibration_error, abs=1e-6)
    assert of_predictions.accuracy == of_labels.accuracy
