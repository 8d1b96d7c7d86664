"""Which models can be tried in the report, and with what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sections import try_it
from distill_queue.shared.results.page_program import PageProgram

SHAPE = (1, 8, 8)


def program(size_bytes: int = 1_000) -> PageProgram:
    operation: dict[str, Any] = {"kind": "linear", "weights": "A" * size_bytes}
    return PageProgram(samples=359, agreement=0.99, shape=SHAPE, operations=(operation,))


def tried(facts: ReportFacts, **programs: PageProgram) -> Section | None:
    return try_it.section(replace(facts, programs=programs))


def given(section: Section | None) -> dict[str, Any]:
    assert section is not None
    assert section.trial is not None
    return json.loads(section.trial.facts)


def test_without_a_program_there_is_no_section(facts: ReportFacts) -> None:
    assert tried(facts) is None


def test_the_student_answers_beside_the_teacher(facts: ReportFacts) -> None:
    section = tried(facts, small=program(), teacher=program())

    found = given(section)
    assert [(each["name"], each["role"]) for each in found["models"]] == [("small", "student"), ("teacher", "teacher")]
    assert found["classes"] == list(facts.dataset.class_names)
    assert (found["shape"], found["white"], found["placement"]["side"]) == ([1, 8, 8], 16, 8)
    assert len(found["samples"]) == 30
    assert {each["label"] for each in found["samples"]} == set(facts.dataset.class_names)
    assert section is not None
    assert "small 99.0\u00a0%, teacher 99.0\u00a0%" in section.text


def test_a_teacher_that_does_not_fit_is_left_out_with_a_note(facts: ReportFacts) -> None:
    section = tried(facts, small=program(600_000), teacher=program(500_000))

    assert [each["name"] for each in given(section)["models"]] == ["small"]
    assert section is not None
    assert any("Not to be tried: teacher (500,0" in note for note in section.notes)


def test_where_no_student_has_a_program_the_reason_is_said(facts: ReportFacts) -> None:
    section = tried(facts, small=PageProgram(reason="the page's code has no Erf"), teacher=program())

    assert section is not None
    assert section.trial is None
    assert section.text == "No student can be tried in this page."
    assert section.notes == ("Not to be tried: small (the page's code has no Erf).",)


def test_samples_that_are_no_small_images_have_no_section(facts: ReportFacts) -> None:
    for shape in ((64,), (2, 8, 8), (1, 65, 8)):
        dataset = facts.dataset.model_copy(update={"shape": shape})
        assert try_it.section(replace(facts, dataset=dataset, programs={"small": program()})) is None


def test_a_page_whose_samples_are_lost_takes_drawings_as_they_are(facts: ReportFacts) -> None:
    section = try_it.section(replace(facts, inputs=None, programs={"small": program()}))

    found = given(section)
    assert (found["samples"], found["placement"], found["white"]) == ([], None, 255)


def test_images_in_colour_are_not_placed(facts: ReportFacts) -> None:
    dataset = facts.dataset.model_copy(update={"shape": (3, 8, 8)})
    assert facts.inputs is not None
    inputs = np.repeat(facts.inputs, 3, axis=1)

    found = given(try_it.section(replace(facts, dataset=dataset, inputs=inputs, programs={"small": program()})))

    assert found["placement"] is None
