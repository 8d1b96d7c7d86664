"""Accuracy against cost: the front, its names and its figure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.report.entries import EvaluatedModel, Student
from distill_queue.shared.report.sections.cost import accuracy_by_cost, pareto_front
from distill_queue.shared.report.svg import Picture, plain
from tests.unit.shared.report.conftest import model, student, texts


def accuracy_by_parameters(teachers: Sequence[EvaluatedModel], students: Sequence[Student]) -> Picture:
    models = [*teachers, *(each for student in students for each in student.both)]
    return accuracy_by_cost(models, [each.parameters for each in models], "x", "Accuracy against size", "parameters")


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


def test_cost_figures_tell_roles_by_a_legend_and_name_no_control() -> None:
    long = "a-very-long-student-name-that-goes-on-and-on-0000"
    students = [
        student(model(f"{long}{n}", parameters=n), model(f"{long}{n}/control", "control", 0.4, n)) for n in (1, 2)
    ]

    found = texts(accuracy_by_parameters([model("my teacher", "teacher", 0.9, 500)], students))

    assert {"teacher", "student", "control", "front", "my teacher"} <= set(found)
    assert {plain(f"{long}1"), plain(f"{long}2")} <= set(found)
    assert plain(f"{long}1").endswith("-00001")
    assert not any("/control" in each or each.endswith("rol") for each in found if each != "control")


def test_of_many_models_the_most_accurate_ones_on_the_front_have_names_and_few_are_said() -> None:
    students = [student(model(f"s{n}", accuracy=n / 20, parameters=n)) for n in range(1, 15)]
    worse = student(model("worse", accuracy=0.01, parameters=50))

    picture = accuracy_by_parameters([model("master", "teacher", 0.9, 500)], [*students, worse])

    names = [each for each in texts(picture) if re.fullmatch(r"s\d+|worse|master", each)]
    assert set(names) == {"master", *(f"s{n}" for n in range(6, 15))}
    assert picture.says.count("with") == 5
    assert "master 90.0" in picture.says
    assert picture.says.endswith("and 10 cheaper ones")
