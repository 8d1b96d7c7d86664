"""Which classes are taken for which, and how accurate a model is on each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from distill_queue.shared.report.drawing import (
    MOST_WORDS,
    add_legend,
    height_of_rows,
    marker_look,
    name_rows,
    shade_cells,
    short_name,
)
from distill_queue.shared.report.entries import EvaluatedModel, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import MOST_STUDENTS, fewer_students, not_shown
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.results.predictions import Targets

#: The most classes in a figure, and in a table.
MOST_CLASSES = 20
MOST_ROWS = 100
#: Characters of a class's name in a table.
LONGEST_NAME = 40
#: How far the marks of each role stand below the middle of their row, in rows, so that none hides another.
ROW_SHIFTS = {"teacher": -0.27, "student": 0.0, "control": 0.27}


def section(facts: ReportFacts) -> Section:
    """Confusion of the teacher and the best students, and these students' scores by class."""
    title = "Where they are wrong"
    text = "Share in percent of a class's test samples (row) that are given a class (column), over all seeds."
    notes = (*fewer_students(facts), *not_shown(facts, "predictions", "test samples"))
    if facts.targets is None:
        return Section(title, text, notes=notes)
    best, names = [each for each in facts.best(MOST_STUDENTS) if each.model.predictions], facts.dataset.class_names
    models = [model for model in (facts.teacher, *(student.model for student in best)) if model and model.predictions]
    pictures = [
        *(confusion(model, facts.targets, names, f"confusion-{n}") for n, model in enumerate(models)),
        *(
            accuracy_by_class(student, facts.teacher, facts.targets, names, f"classes-{n}")
            for n, student in enumerate(best)
        ),
    ]
    tables = tuple(class_table(student, facts.teacher, facts.targets, names) for student in best)
    if tables:
        text += " Below, each class in numbers: precision, recall and F1 in percent, means over the seeds."
    return Section(title, text, tuple(pictures), tables, notes=notes, folded=True)


def confusion(model: EvaluatedModel, targets: Targets, class_names: Sequence[str], name: str) -> Picture:
    """Which classes a model takes for which: all, or the most confused ones."""
    counts = model.confusion(targets, len(class_names))
    shown = most_confused(counts, MOST_CLASSES)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [plain(class_names[label], 12) for label in shown]
    words = [[f"{100 * share:.0f}" if share >= 0.005 else "" for share in row] for row in shares]

    def draw(axes: Axes) -> None:
        if len(shown) > MOST_WORDS:
            # Nearly all samples are right: beside their shade no wrong one would be seen.
            wrong = _off_diagonal(shares)
            shade_cells(axes, wrong / max(wrong.max(), 1e-9), [], names, names)
            axes.plot([-0.5, len(shown) - 0.5], [-0.5, len(shown) - 0.5], color=COLOURS["muted"], linewidth=1)
        else:
            shade_cells(axes, shares, words, names, names)
        axes.set(xlabel="given class", ylabel="class")

    wrong = _off_diagonal(counts)
    label, given = map(int, np.unravel_index(int(wrong.argmax()), wrong.shape))
    samples = max(int(counts[label].sum()), 1)
    says = "no sample is given a wrong class"
    if wrong.any():
        own, taken_for = plain(class_names[label]), plain(class_names[given])
        says = f"most often {own} is taken for {taken_for}: {percent(wrong[label, given] / samples)} of its samples"
        if len(shown) > MOST_WORDS:
            says += f"; only the wrong ones are shaded, the darkest is {percent(_off_diagonal(shares).max())}"
    some = f", the {len(shown)} most confused of {len(class_names)} classes" if len(shown) < len(class_names) else ""
    return Picture.drawn(name, f"{model.name}{some}", says, draw, height=380)


def accuracy_by_class(
    student: Student, teacher: EvaluatedModel | None, targets: Targets, names: Sequence[str], name: str
) -> Picture:
    """Accuracy of teacher, student and control on each class: all, or the student's worst ones."""
    models = [model for model in (teacher, *student.both) if model and model.predictions]
    accuracies = {model.role: class_accuracies(model.confusion(targets, len(names))) for model in models}
    of_student = accuracies["student"]
    ranked = [label for label in np.argsort(of_student, kind="stable") if not np.isnan(of_student[label])]
    shown = ranked[:MOST_CLASSES]

    def draw(axes: Axes) -> None:
        for model in models:
            values = 100 * accuracies[model.role][shown]
            rows = np.arange(len(shown)) + ROW_SHIFTS[model.role]
            axes.plot(values, rows, linestyle="none", label=short_name(model), **marker_look(model.role))
        axes.hlines(np.arange(len(shown) - 1) + 0.5, 0, 1, transform=axes.get_yaxis_transform(),
                    color=COLOURS["grid"], linewidth=0.8)  # fmt: skip
        name_rows(axes, [plain(names[label], 16) for label in shown])
        axes.set_xlabel("accuracy, %")
        add_legend(axes)

    says = "no class has a test sample"
    if shown:
        says = f"the student is worst on {plain(names[shown[0]])}: {percent(of_student[shown[0]])}"
    some = f", its {len(shown)} worst of {len(names)} classes" if len(shown) < len(names) else ", by class"
    return Picture.drawn(name, f"{student.score.name}{some}", says, draw, height=height_of_rows(len(shown)) + 20)


def class_table(student: Student, teacher: EvaluatedModel | None, targets: Targets, names: Sequence[str]) -> Table:
    """Precision, recall and F1 of teacher, student and control for each class that has test samples: all, or a few."""
    models = [model for model in (teacher, *student.both) if model and model.predictions]
    scores = {model.role: model.class_scores(targets, len(names)) for model in models}
    samples = scores["student"][0].samples
    tested = [label for label in range(len(names)) if samples[label]]
    f1 = np.mean([each.f1 for each in scores["student"]], axis=0)
    shown = sorted(sorted(tested, key=lambda label: f1[label])[:MOST_ROWS])
    columns = [f"{model.role}: {name}" for model in models for name in ("precision", "recall", "F1")]
    rows = tuple(
        (
            plain(names[label], LONGEST_NAME),
            f"{samples[label]:,}",
            *(
                f"{100 * np.mean([getattr(each, name)[label] for each in scores[model.role]]):.1f}"
                for model in models
                for name in ("precision", "recall", "f1")
            ),
        )
        for label in shown
    )
    some = f", the {len(shown)} of the lowest F1 of {len(tested)}" if len(shown) < len(tested) else ""
    return Table(f"{student.score.name}: each class{some}", ("class", "test samples", *columns), rows)


def _off_diagonal(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values * ~np.eye(len(values), dtype=bool)


def most_confused(confusion: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The classes that are most often taken for others, or others for them; in their own order."""
    wrong = confusion - np.diag(np.diag(confusion))
    return np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:count])


def class_accuracies(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of each class's samples that are given their own class; not a number where a class has none."""
    samples = confusion.sum(1)
    return np.divide(np.diag(confusion), samples, out=np.full(len(samples), np.nan), where=samples > 0)
