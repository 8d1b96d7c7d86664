"""Accuracy and loss by epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import curves
from distill_queue.shared.report.sections.curves import learning_curve, loss_curve, measure_curves
from distill_queue.shared.results.history import History
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from tests.conftest import small_spec
from tests.unit.shared.report.conftest import model, run, student, texts, with_histories


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


def test_what_epochs_were_compared_by_has_a_curve_of_its_own() -> None:
    points = [(1.0, 0.5, 0.4), (0.2, 0.99, 0.6)]
    compared = replace(model("small"), histories=(History.of(points, "macro_f1", (0.25, 0.5)),))
    plain = with_histories(model("small/control", "control"), points)

    (picture,) = measure_curves(student(compared, plain), [], "x")

    assert picture.title == "small: macro F1 on held-out samples, by which its epochs were compared"
    assert picture.says == "After the last epoch: small 50.0%"
    assert {"macro F1, %", "small"} <= set(texts(picture))
    assert not list(measure_curves(student(plain), [], "x"))


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


@pytest.fixture
def of_two_teachers(tmp_path: Path) -> ReportFacts:
    """What a report reads of a pipeline with two teachers."""
    teachers = [{"model": {"name": "mlp", "hidden": [size]}, "training": {"epochs": 1}} for size in (16, 32)]
    spec = {
        name: value
        for name, value in small_spec(teachers=teachers, evaluation={"control": False}).items()
        if name != "teacher"
    }
    status, folder = run(PipelineSpec.model_validate(spec), tmp_path / "store")
    return ReportFacts.read(status, FolderStore(folder))


def test_curves_of_several_teachers_are_those_of_each(of_two_teachers: ReportFacts) -> None:
    section = curves.section(of_two_teachers)

    assert section.pictures[0].says.startswith("After the last epoch, on training data: teacher 1")
    assert section.notes == ()
