"""The points of grids: a figure where they are a plane, else a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sections import grids
from distill_queue.shared.results.measure import Measure
from distill_queue.shared.results.records import ChoiceRecord
from tests.unit.shared.report.conftest import texts


def section_of(facts: ReportFacts, labels: Sequence[str], best_by: Measure | None = None) -> Section | None:
    """The section of a student that was chosen from points; the last point is the highest."""
    held_out = tuple((1 + place) / (1 + len(labels)) for place in range(len(labels)))
    choice = ChoiceRecord(labels=tuple(labels), held_out=held_out, best_by=best_by, trained={})
    (student,) = facts.students
    chosen = replace(student, score=student.score.model_copy(update={"choice": choice}))
    return grids.section(replace(facts, students=(chosen,)))


def test_a_pipeline_without_a_grid_has_no_such_section(facts: ReportFacts) -> None:
    assert grids.section(facts) is None


def test_points_that_differ_in_two_things_are_a_heat_map_with_the_longer_axis_across(facts: ReportFacts) -> None:
    section = section_of(facts, [f"alpha {alpha}, temperature {of}" for alpha, of in product((0.1, 0.9), (1, 2, 4))])

    assert section
    (picture,) = section.pictures
    assert section.tables == ()
    assert {"alpha", "temperature", "0.1", "0.9", "14.3", "85.7"} <= set(texts(picture))
    assert picture.says.startswith("best is alpha 0.9, temperature 4")
    assert texts(picture)[:4] == ["1", "2", "4", "temperature"]


def test_points_that_differ_in_three_things_are_a_table_of_the_best(facts: ReportFacts) -> None:
    section = section_of(facts, [f"a {a}, b {b}, c {c}" for a, b, c in product(range(3), repeat=3)])

    assert section
    (table,) = section.tables
    assert section.pictures == ()
    assert table.caption == "small: 27 points of its grid, the best 24"
    assert table.rows[0][0] == table.best == "a 2, b 2, c 2"


@pytest.mark.parametrize(
    "labels", [["a 1", "a 2"], ["a 1, b 1", "a 1, b 2", "a 2, b 1", "a 2, b 2"], ["a 1, b 2", "c 3"]]
)
def test_of_losses_the_lowest_is_the_best(facts: ReportFacts, labels: list[str]) -> None:
    section = section_of(facts, labels, best_by="loss")

    assert section
    assert section.text.startswith("Loss on ")
    for picture in section.pictures:
        assert picture.says == f"best is {labels[0]}: {2 / (1 + len(labels)) / 2:.3f} held out"
    for table in section.tables:
        assert table.best == table.rows[0][0] == labels[0]
