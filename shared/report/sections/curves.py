"""Accuracy and loss by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill_queue.shared.report.drawing import DASHES, LAYERS, add_legend, set_round_ticks, short_name
from distill_queue.shared.report.entries import Graded, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import MOST_STUDENTS, fewer_students, not_shown
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture
from distill_queue.shared.results.history import History

#: Dashes of the first teacher's lines, the second's …
TEACHER_DASHES = ("-", ":", "-.")
#: Ratio of largest to smallest loss from which on their axis is logarithmic.
LOGARITHMIC_RATIO = 20


def section(facts: ReportFacts) -> Section:
    """Accuracy and loss by epoch, of the best students beside their teachers and controls."""
    best = facts.best(MOST_STUDENTS)
    shown = [student for student in best if any(model.histories for model in student.both)]
    pictures = tuple(
        picture
        for number, student in enumerate(shown)
        for picture in (
            learning_curve(student, facts.each_teacher, f"accuracy-{number}"),
            loss_curve(student, facts.each_teacher, f"loss-{number}"),
        )
    )
    text = (
        "One line a seed. Losses of different kinds, as the student's and its control's, cannot be compared: look at "
        "their course. Where samples are held out of the training data, full lines are of these, faint ones of the "
        "training data."
    )
    return Section("Learning curves", text, pictures, notes=(*fewer_students(facts), *not_shown(facts, "history")))


def learning_curve(student: Student, teachers: Sequence[Graded], name: str) -> Picture:
    """Accuracy after each epoch of teachers, student and control."""
    models = _with_history(student, teachers)
    held_out = any(history.held_out_accuracies for model in models for history in model.histories)

    def draw(axes: Axes) -> None:
        for model, dashes in zip(models, _dashes(models), strict=True):
            for number, history in enumerate(model.histories):
                label = short_name(model) if number == 0 else None
                _line(axes, model.role, dashes, [100 * each for each in _accuracies(history)], label)
                if held_out:
                    _line(axes, model.role, dashes, [100 * each for each in history.train_accuracies], None, faint=True)
        _epochs(axes)
        axes.set_ylabel("accuracy, %")
        add_legend(axes)

    last = "; ".join(
        f"{short_name(model)} {percent(fmean(_accuracies(history)[-1] for history in model.histories))}{_over(model)}"
        for model in models
    )
    of = "held-out samples" if held_out else "training data"
    title = f"{student.score.name}: accuracy by epoch"
    return Picture.drawn(name, title, f"After the last epoch, on {of}: {last}", draw)


def loss_curve(student: Student, teachers: Sequence[Graded], name: str) -> Picture:
    """The loss of each epoch of teachers, student and control."""
    models = _with_history(student, teachers)

    def draw(axes: Axes) -> None:
        for model, dashes in zip(models, _dashes(models), strict=True):
            for number, history in enumerate(model.histories):
                _line(axes, model.role, dashes, history.losses, short_name(model) if number == 0 else None)
        _epochs(axes)
        losses = [loss for model in models for history in model.histories for loss in history.losses]
        if min(losses) > 0 and max(losses) > LOGARITHMIC_RATIO * min(losses):
            axes.set_yscale("log")
            set_round_ticks(axes.yaxis, min(losses), max(losses))
        axes.set_ylabel("loss")
        add_legend(axes)

    last = "; ".join(
        f"{short_name(model)} {fmean(history.losses[-1] for history in model.histories):.3g}{_over(model)}"
        for model in models
    )
    return Picture.drawn(name, f"{student.score.name}: loss by epoch", f"After the last epoch: {last}", draw)


def _with_history(student: Student, teachers: Sequence[Graded]) -> list[Graded]:
    return [model for model in (*teachers, *student.both) if model.histories]


def _accuracies(history: History) -> Sequence[float]:
    """On held-out samples, where there are any."""
    return history.held_out_accuracies or history.train_accuracies


def _over(model: Graded) -> str:
    seeds = len(model.histories)
    return f" (mean of {seeds} seeds)" if seeds > 1 else ""


def _dashes(models: Sequence[Graded]) -> list[Any]:
    """A look of lines for each model: teachers are told apart by it."""
    of_teachers = cycle(TEACHER_DASHES)
    return [next(of_teachers) if model.role == "teacher" else DASHES[model.role] for model in models]


def _line(
    axes: Axes, role: str, dashes: Any, values: Sequence[float], label: str | None, *, faint: bool = False
) -> None:
    """A value after each epoch; of training data, where there are others, faint."""
    if values:
        axes.plot(
            range(1, len(values) + 1),
            values,
            linestyle=dashes,
            label=label,
            color=COLOURS[role],
            marker="." if len(values) < 10 else None,
            alpha=0.45 if faint else 1.0,
            zorder=LAYERS[role],
        )


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if all(np.size(line.get_xdata()) == 1 for line in axes.lines):
        axes.set(xlim=(0.5, 1.5), xticks=[1])
