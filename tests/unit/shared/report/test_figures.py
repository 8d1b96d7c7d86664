"""What the figures of a report show, read from their SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.entries import Graded, Role, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.point_names import free_place, overlaps
from distill_queue.shared.report.sections.confusion import accuracy_by_class, confusion
from distill_queue.shared.report.sections.cost import accuracy_by_latency, accuracy_by_size
from distill_queue.shared.report.sections.curves import learning_curve, loss_curve
from distill_queue.shared.report.svg import Picture, plain
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import Predictions
from distill_queue.shared.results.records import EvaluationRecord, ReportRecord, StudentRun
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.evaluation.scores import score
from tests.conftest import small_spec
from tests.unit.conftest import evaluation

TARGETS = np.array([0, 0, 1, 1])


def texts(picture: Picture) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture.svg).iter("text")]


def marks(picture: Picture, colour: str) -> list[tuple[float, float]]:
    """Where marks of a colour stand, from the left and from above: those in the legend last."""
    uses = (each for each in ET.fromstring(picture.svg).iter("use") if f"var(--{colour})" in each.get("style", ""))
    return [(float(each.get("x", 0)), float(each.get("y", 0))) for each in uses]


def model(
    name: str, role: Role = "student", accuracy: float = 0.5, parameters: int = 100, classes: Sequence[int] = ()
) -> Graded:
    record = evaluation(accuracy, parameters).model_copy(update={"latency_median_ms": parameters / 1000})
    said = (Predictions(np.array(classes, np.uint8), np.full(len(classes), 0.9, np.float32)),) if classes else ()
    return Graded(name, role, (record,), record, said)


def with_histories(graded: Graded, *histories: Sequence[tuple[float, float, float | None]]) -> Graded:
    return replace(graded, histories=tuple(History.of(list(each)) for each in histories))


def student(graded: Graded, control: Graded | None = None) -> Student:
    other = control.evaluations[0] if control else None
    return Student(
        score(graded.name, (StudentRun(seed=0, student=graded.evaluations[0], control=other),), None), graded, control
    )


def facts_of(teachers: Sequence[Graded], students: Sequence[Student]) -> ReportFacts:
    """Facts of which only the models matter."""
    plan = Plan.of(PipelineSpec.model_validate(small_spec()))
    status = PipelineStatus(id="tiny-1", submitted=0.0, plan=plan, states={})
    scores = ReportRecord(teacher=None, students=tuple(each.score for each in students))
    return ReportFacts(
        status=status, scores=scores, dataset=None, targets=None, inputs=None, teacher=teachers[0],  # type: ignore[arg-type]
        teachers=tuple(teachers[1:]), students=tuple(students), lineage=(), missing=(),
    )  # fmt: skip


def test_models_that_are_built_alike_have_the_latency_of_the_fastest() -> None:
    def measured(latency_ms: float, **changes: object) -> EvaluationRecord:
        return evaluation(0.9).model_copy(update={"latency_median_ms": latency_ms, **changes})

    runs = (
        StudentRun(seed=0, student=measured(0.03), control=measured(0.04)),
        StudentRun(seed=1, student=measured(0.05), control=measured(0.02)),
        StudentRun(seed=2, student=measured(0.01, device="cuda"), control=measured(0.01, multiply_adds=7)),
    )
    scores = ReportRecord(teacher=measured(0.001, parameters=999), students=(score("small", runs, None),))

    assert {
        scores.fastest(each).latency_median_ms for run in runs[:2] for each in (run.student, run.control) if each
    } == {0.02}
    assert scores.fastest(runs[2].student).latency_median_ms == 0.01
    assert scores.teacher
    assert scores.fastest(scores.teacher).latency_median_ms == 0.001


def test_cost_figures_tell_roles_by_a_legend_and_name_no_control() -> None:
    long = "a-very-long-student-name-that-goes-on-and-on-0000"
    students = [
        student(model(f"{long}{n}", parameters=n), model(f"{long}{n}/control", "control", 0.4, n)) for n in (1, 2)
    ]

    found = texts(accuracy_by_size(facts_of([model("my teacher", "teacher", 0.9, 500)], students)))

    assert {"teacher", "student", "control", "front", "my teacher"} <= set(found)
    assert {plain(f"{long}1"), plain(f"{long}2")} <= set(found)
    assert plain(f"{long}1").endswith("-00001")
    assert not any("/control" in each or each.endswith("rol") for each in found if each != "control")


def test_of_many_models_the_most_accurate_ones_on_the_front_have_names_and_few_are_said() -> None:
    students = [student(model(f"s{n}", accuracy=n / 20, parameters=n)) for n in range(1, 15)]
    worse = student(model("worse", accuracy=0.01, parameters=50))

    picture = accuracy_by_latency(facts_of([model("master", "teacher", 0.9, 500)], [*students, worse]))

    names = [each for each in texts(picture) if re.fullmatch(r"s\d+|worse|master", each)]
    assert set(names) == {"master", *(f"s{n}" for n in range(6, 15))}
    assert picture.says.count("ms a sample") == 5
    assert "master 90.0" in picture.says
    assert picture.says.endswith("and 10 cheaper ones")


@pytest.mark.parametrize("place", [(15.0, 15.0), (385.0, 15.0), (15.0, 185.0), (200.0, 100.0)])
def test_a_name_lies_within_the_axes_and_on_nothing_else(place: tuple[float, float]) -> None:
    taken = np.array([[x - 5, y - 5, x + 5, y + 5] for x, y in (place, (200.0, 90.0), (230.0, 100.0))])

    box, line = free_place(np.array(place), np.array([120.0, 14.0]), taken, taken[:0], np.array([0.0, 0, 400, 200]))

    assert (box[:2] >= 0).all()
    assert (box[2:] <= [400, 200]).all()
    assert not overlaps(box, taken).any()
    assert line[0].tolist() == list(place)


def test_curves_show_each_teacher_and_say_means_over_seeds_on_held_out_samples() -> None:
    teachers = [with_histories(model(f"teacher {n}", "teacher"), [(1.0, 0.5, 0.5), (0.5, 0.9, 0.8)]) for n in (1, 2)]
    of_student = with_histories(
        model("small"), [(1.0, 0.5, 0.4), (0.2, 0.99, 0.6)], [(1.0, 0.5, 0.4), (0.4, 0.99, 0.7)]
    )

    accuracy = learning_curve(student(of_student), teachers, "x")
    loss = loss_curve(student(of_student), teachers, "y")

    for picture in (accuracy, loss):
        assert {"teacher 1", "teacher 2", "small"} <= set(texts(picture))
    said = accuracy.says.replace("\u00a0", " ")
    assert said.startswith("After the last epoch, on held-out samples: teacher 1 80.0 %; teacher 2 80.0 %")
    assert said.endswith("small 65.0 % (mean of 2 seeds)")
    assert loss.says.endswith("small 0.3 (mean of 2 seeds)")


def test_the_legend_of_curves_is_of_the_full_lines() -> None:
    of_student = with_histories(model("small"), [(1.0, 0.5, 0.4), (0.2, 0.99, 0.6)])

    picture = learning_curve(student(of_student), [], "x")

    paths = (each.get("style", "") for each in ET.fromstring(picture.svg).iter("path"))
    lines = [style for style in paths if "var(--student)" in style and "stroke-width: 1.8" in style]
    assert ["opacity: 0.45" in style for style in lines].count(True) == 1
    assert len(lines) == 3


def test_one_epoch_is_a_whole_one() -> None:
    of_student = with_histories(model("small"), [(1.0, 0.5, None)])

    for draw in (learning_curve, loss_curve):
        found = texts(draw(student(of_student), [], "x"))
        assert found[: found.index("epoch")] == ["1"]


def test_roles_that_are_as_good_on_a_class_do_not_hide_one_another() -> None:
    classes = [0, 0, 1, 0]
    of_student = student(model("small", classes=classes), model("small/control", "control", classes=classes))
    teacher = model("teacher", "teacher", classes=classes)

    picture = accuracy_by_class(of_student, teacher, TARGETS, ["a", "b"], "x")

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


def test_long_names_are_cut_in_the_middle() -> None:
    assert plain("a" * 30 + "-1", 9) == "aaaa…aa-1"
    assert plain("short", 5) == "short"
