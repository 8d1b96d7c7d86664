"""The test samples on which teacher and student disagree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.images import are_images, data_uris
from distill_queue.shared.report.notes import not_shown
from distill_queue.shared.report.section import Sample, Section
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import plain
from distill_queue.shared.results.predictions import Predictions

#: The most images that are shown.
MOST_IMAGES = 24


def section(facts: ReportFacts) -> Section:
    """How often the best student and its teacher disagree, who is right, and some of the images."""
    title, teacher, student = "Where teacher and student disagree", facts.teacher, facts.best(1)[0].model
    if teacher is None:
        return Section(title, "There are only labels of the teacher: it has not seen the test samples.")
    notes = not_shown(facts, "predictions", "test samples")
    if facts.targets is None or not (teacher.predictions and student.predictions):
        return Section(title, "The predictions of teacher or student are missing.", notes=notes)
    of_teacher, of_student = teacher.predictions[0], student.predictions[0]
    rows = of_teacher.unlike(of_student)
    counts = [int(each.hits(facts.targets)[rows].sum()) for each in (of_teacher, of_student)]
    text = (
        f"{student.name} and its teacher disagree on {len(rows):,} of {len(facts.targets):,} test samples: the teacher "
        f"is right on {counts[0]:,} of them, the student on {counts[1]:,}, neither on {len(rows) - sum(counts):,}."
    )
    if not are_images(facts.dataset):
        text += " The samples are not shown: they are not images of one or three channels."
        return Section(title, text, notes=notes)
    samples = tuple(_samples(facts, of_teacher, of_student))
    if len(samples) < len(rows):
        text += f" Shown are the {len(samples)} on which the two are surest."
    return Section(title, text, samples=samples, notes=notes)


def _samples(facts: ReportFacts, teacher: Predictions, student: Predictions) -> Iterator[Sample]:
    rows, names = teacher.unlike(student)[:MOST_IMAGES], [plain(name) for name in facts.dataset.class_names]
    if facts.inputs is None or facts.targets is None or not len(rows):
        return
    for row, uri in zip(rows, data_uris(np.asarray(facts.inputs[rows])), strict=True):
        label = int(facts.targets[row])
        right = "student" if student.classes[row] == label else "neither"
        right = "teacher" if teacher.classes[row] == label else right
        said = [f"{names[int(each.classes[row])]} ({percent(each.confidences[row], 0)})" for each in (teacher, student)]
        yield Sample(uri, names[label], said[0], said[1], right)
