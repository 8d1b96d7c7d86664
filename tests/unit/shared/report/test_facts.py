"""The numbers of a report, beside those that were computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distill_queue.shared.report.sections.confusion import class_accuracies, most_confused
from distill_queue.shared.report.sections.cost import pareto_front
from distill_queue.shared.results.calibration import Calibration
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import CONFIDENCES, PREDICTIONS, Predictions
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.statistics import LabelStatistics
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.spec.grid import points, values_of
from distill_queue.worker.evaluation import quality as evaluation

TARGETS = np.array([0, 0, 1, 1, 2, 2])


def predictions(*classes: int, confidences: tuple[float, ...] = ()) -> Predictions:
    sure = confidences or (0.9,) * len(classes)
    return Predictions(np.array(classes, np.uint8), np.array(sure, np.float32))


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])

    evaluation.predictions(logits).write(tmp_path)
    found = Predictions.read(tmp_path / PREDICTIONS, tmp_path / CONFIDENCES)

    assert (found.classes.dtype, found.confidences.dtype) == (np.uint8, np.float32)
    assert found.classes.tolist() == [1, 0]
    np.testing.assert_allclose(found.confidences, [0.665241, 0.909443], rtol=1e-5)


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16), (70_000, np.uint32)])
def test_a_class_takes_the_smallest_type_that_holds_all(classes: int, dtype: type) -> None:
    found = evaluation.predictions(torch.eye(classes)[-2:]) if classes < 1000 else evaluation.predictions(
        torch.zeros(2, classes).index_fill_(1, torch.tensor([classes - 1]), 9.0)
    )  # fmt: skip

    assert found.classes.dtype == dtype
    assert found.classes[-1] == classes - 1


def test_a_confusion_has_the_classes_as_rows() -> None:
    found = predictions(0, 2, 1, 1, 1, 2).confusion(TARGETS, 3)

    assert found.tolist() == [[1, 0, 1], [0, 2, 0], [0, 1, 1]]
    assert class_accuracies(found).tolist() == [0.5, 1.0, 0.5]


def test_a_class_without_samples_has_no_accuracy() -> None:
    assert np.isnan(class_accuracies(predictions(0, 0).confusion(np.array([0, 0]), 2))[1])


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)))
def test_a_confusion_counts_every_sample_once(given: tuple[list[int], list[int]]) -> None:
    targets, classes = np.array(given[0]), given[1]

    found = predictions(*classes).confusion(targets, 5)

    assert found.sum(1).tolist() == np.bincount(targets, minlength=5).tolist()
    assert found.sum(0).tolist() == np.bincount(classes, minlength=5).tolist()
    assert np.trace(found) == predictions(*classes).hits(targets).sum()


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
    of_predictions = evaluation.predictions(torch.from_numpy(logits)).calibration(targets)

    assert of_predictions.error == pytest.approx(of_labels.calibration_error, abs=1e-6)
    assert of_predictions.accuracy == of_labels.accuracy


def test_first_come_the_disagreements_of_which_both_are_sure() -> None:
    teacher = predictions(0, 1, 2, 0, confidences=(0.9, 0.6, 0.99, 0.8))
    student = predictions(1, 0, 2, 1, confidences=(0.5, 0.9, 0.99, 0.7))

    assert teacher.unlike(student).tolist() == [3, 1, 0]


def test_the_most_confused_classes_are_those_taken_for_others_and_others_for_them() -> None:
    confusion = np.array([[90, 0, 0, 1], [0, 80, 9, 0], [0, 7, 80, 0], [0, 0, 0, 99]])

    assert most_confused(confusion, 2).tolist() == [1, 2]
    assert most_confused(confusion, 9).tolist() == [0, 1, 2, 3]


def test_a_front_by_hand() -> None:
    assert pareto_front([3.0, 1.0, 2.0, 1.0], [0.9, 0.5, 0.5, 0.6]) == [3, 0]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_none_on_the_front_is_beaten_and_all_others_are(models: list[tuple[int, int]]) -> None:
    costs, accuracies = ([float(model[side]) for model in models] for side in (0, 1))

    front = pareto_front(costs, accuracies)

    def beaten(place: int) -> bool:
        return any(
            (cost <= costs[place] and accuracy >= accuracies[place])
            and (cost < costs[place] or accuracy > accuracies[place] or other < place)
            for other, (cost, accuracy) in enumerate(zip(costs, accuracies, strict=True))
        )

    assert sorted(front) == [place for place in range(len(models)) if not beaten(place)]


def test_the_labels_of_a_grid_say_what_its_points_are() -> None:
    grid = {"distillation": {"temperature": {"grid": [1, 2.5]}, "alpha": {"grid": [0.5]}}}

    found = values_of([label for label, _ in points(grid)])

    assert found == [{"temperature": "1", "alpha": "0.5"}, {"temperature": "2.5", "alpha": "0.5"}]


def test_labels_that_say_nothing_of_the_kind_give_no_values() -> None:
    assert values_of(["name a, b", "name c"]) == [{}, {}]
    assert values_of(["", "temperature 2"]) == [{}, {}]


def test_the_same_history_is_the_same_bytes(tmp_path: Path) -> None:
    history = History.of([(0.1 + 0.2, 1 / 3, None), (1e-30, 1.0, None)])

    for name in ("one", "two"):
        history.write(tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert History.read(tmp_path / "one") == history
    assert history.held_out_accuracies == ()
