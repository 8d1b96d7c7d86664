"""Which classes are taken for which."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np

from distill_queue.shared.report.sections.confusion import (
    accuracy_by_class,
    class_accuracies,
    class_table,
    confusion,
    most_confused,
)
from distill_queue.shared.results.predictions import Predictions
from tests.unit.shared.report.conftest import marks, model, student

TARGETS = np.array([0, 0, 1, 1, 2, 2])


LABELS = np.array([0, 0, 1, 1])


def predictions(*classes: int, confidences: tuple[float, ...] = ()) -> Predictions:
    sure = confidences or (0.9,) * len(classes)
    return Predictions(np.array(classes, np.uint8), np.array(sure, np.float32))


def test_a_confusion_has_the_classes_as_rows() -> None:
    found = predictions(0, 2, 1, 1, 1, 2).confusion(TARGETS, 3)

    assert found.tolist() == [[1, 0, 1], [0, 2, 0], [0, 1, 1]]
    assert class_accuracies(found).tolist() == [0.5, 1.0, 0.5]


def test_a_class_without_samples_has_no_accuracy() -> None:
    assert np.isnan(class_accuracies(predictions(0, 0).confusion(np.array([0, 0]), 2))[1])


def test_the_most_confused_classes_are_those_taken_for_others_and_others_for_them() -> None:
    confusion = np.array([[90, 0, 0, 1], [0, 80, 9, 0], [0, 7, 80, 0], [0, 0, 0, 99]])

    assert most_confused(confusion, 2).tolist() == [1, 2]
    assert most_confused(confusion, 9).tolist() == [0, 1, 2, 3]


def test_roles_that_are_as_good_on_a_class_do_not_hide_one_another() -> None:
    classes = [0, 0, 1, 0]
    of_student = student(model("small", classes=classes), model("small/control", "control", classes=classes))
    teacher = model("teacher", "teacher", classes=classes)

    picture = accuracy_by_class(of_student, teacher, LABELS, ["a", "b"], "x")

    heights = [marks(picture, role)[0][1] for role in ("teacher", "student", "control")]
    assert min(abs(one - other) for one, other in pairwise(heights)) >= 5


def test_wrong_classes_of_many_are_shaded_on_a_scale_of_their_own() -> None:
    targets = np.repeat(np.arange(13), 40)
    classes = targets.copy()
    classes[0] = 5

    picture = confusion(model("small", classes=classes.tolist()), targets, [f"c{n}" for n in range(13)], "x")

    shades = [each.get("style", "") for each in ET.fromstring(picture.svg).iter("path")]
    shades = [each for each in shades if "var(--heat)" in each]
    assert len(shades) == 1
    assert "opacity" not in shades[0]
    assert "only the wrong ones are shaded, the darkest is 2.5" in picture.says


MANY, NAMES_OF_MANY = np.arange(120) % 60, [f"class {number}" for number in range(60)]


def test_of_many_classes_the_most_confused_are_shown() -> None:
    picture = confusion(model("small", classes=(MANY % 59).tolist()), MANY, NAMES_OF_MANY, "x")

    assert picture.title == "small, the 20 most confused of 60 classes"


def test_of_many_classes_the_worst_are_shown() -> None:
    of_student = model("small", classes=(MANY % 59).tolist())

    picture = accuracy_by_class(student(of_student), None, MANY, NAMES_OF_MANY, "y")

    assert picture.title == "small, its 20 worst of 60 classes"


def test_each_tested_class_has_its_scores_of_teacher_student_and_control() -> None:
    of_student = student(model("small", classes=[0, 0, 1, 0]), model("small/control", "control", classes=[0, 0, 0, 0]))
    teacher = model("teacher", "teacher", classes=[0, 0, 1, 1])

    table = class_table(of_student, teacher, LABELS, ["a", "b", "untested"])

    assert table.columns[:5] == ("class", "test samples", "teacher: precision", "teacher: recall", "teacher: F1")
    assert table.rows == (
        ("a", "2", "100.0", "100.0", "100.0", "66.7", "100.0", "80.0", "50.0", "100.0", "66.7"),
        ("b", "2", "100.0", "100.0", "100.0", "100.0", "50.0", "66.7", "0.0", "0.0", "0.0"),
    )


def test_of_many_classes_those_of_the_lowest_f1_are_in_the_table() -> None:
    targets = np.arange(130)
    classes = targets.copy()
    classes[[5, 120]] = 0

    table = class_table(student(model("small", classes=classes.tolist())), None, targets, [f"c{n}" for n in range(130)])

    assert len(table.rows) == 100
    assert {"c0", "c5", "c120"} < {row[0] for row in table.rows}
    assert table.caption == "small: each class, the 100 of the lowest F1 of 130"
