"""Accuracy and loss by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill_queue.shared.report.drawing import DASHES, LAYERS, add_legend, set_round_ticks, short_name
from distill_queue.shared.report.entries import EvaluatedModel, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import MOST_STUDENTS, fewer_students, not_shown
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture
from distill_queue.shared.results.history import History
from distill_queue.shared.results.measure import WORDS, Measure, in_figures

#: Dashes of the first teacher's lines, the second's …
TEACHER_DASHES = ("-", ":", "-.")
#: Ratio of the largest to the smallest loss above which their axis is logarithmic.
LOGARITHMIC_RATIO = 20
#: The values of some lines, each after each epoch.
Lines = list[Sequence[float]]


def section(facts: ReportFacts) -> Section:
    """Accuracy and loss by epoch, of the best students beside their teachers and controls."""
    best = facts.best(MOST_STUDENTS)
    shown = [student for student in best if any(model.histories for model in student.both)]
    pictures = tuple(
        picture
        for number, student in enumerate(shown)
        for picture in (
            learning_curve(student, facts.each_teacher, f"accuracy-{number}"),
            *measure_curves(student, facts.each_teacher, f"measure-{number}"),
            loss_curve(student, facts.each_teacher, f"loss-{number}"),
        )
    )
    text = (
        "One line for each seed. Losses of different kinds, such as a student's and its control's, cannot be compared; "
        "only their course can. Where samples are held out of the training data, full lines show these samples, faint "
        "lines the training data."
    )
    return Section("Learning curves", text, pictures, notes=(*fewer_students(facts), *not_shown(facts, "history")))


def learning_curve(student: Student, teachers: Sequence[EvaluatedModel], name: str) -> Picture:
    """Accuracy after each epoch of teachers, student and control."""
    models = _with_history(student, teachers)
    held_out = any(history.held_out_accuracies for model in models for history in model.histories)

    def lines_of(history: History) -> Lines:
        return [_accuracies(history), history.train_accuracies] if held_out else [history.train_accuracies]

    def draw(axes: Axes) -> None:
        _draw_lines(axes, models, lines_of, factor=100)
        axes.set_ylabel("accuracy, %")
        add_legend(axes)

    last = _said_of(models, lambda histories: percent(fmean(_accuracies(history)[-1] for history in histories)))
    of = "held-out samples" if held_out else "training data"
    title = f"{student.score.name}: accuracy by epoch"
    return Picture.drawn(name, title, f"After the last epoch, on {of}: {last}", draw)


def loss_curve(student: Student, teachers: Sequence[EvaluatedModel], name: str) -> Picture:
    """The loss of each epoch of teachers, student and control."""
    models = _with_history(student, teachers)

    def draw(axes: Axes) -> None:
        _draw_lines(axes, models, lambda history: [history.losses])
        losses = [loss for model in models for history in model.histories for loss in history.losses]
        if min(losses) > 0 and max(losses) > LOGARITHMIC_RATIO * min(losses):
            axes.set_yscale("log")
            set_round_ticks(axes.yaxis, min(losses), max(losses))
        axes.set_ylabel("loss")
        add_legend(axes)

    last = _said_of(models, lambda histories: f"{fmean(history.losses[-1] for history in histories):.3g}")
    return Picture.drawn(name, f"{student.score.name}: loss by epoch", f"After the last epoch: {last}", draw)


def measure_curves(student: Student, teachers: Sequence[EvaluatedModel], name: str) -> Iterator[Picture]:
    """What epochs were compared by, after each epoch of those models that were not compared by accuracy."""
    models = _with_history(student, teachers)
    for measure in dict.fromkeys(history.best_by for model in models for history in model.histories):
        if measure is None:
            continue
        compared = [model for model in models if model.histories[0].best_by == measure]
        words, factor = WORDS[measure], 1 if measure == "loss" else 100
        last = _said_of(compared, partial(_last_measure, measure=measure))
        title = f"{student.score.name}: {words} on held-out samples, by which its epochs were compared"
        draw = partial(_draw_measure, models=compared, words=words, factor=factor)
        yield Picture.drawn(f"{name}-{measure}", title, f"After the last epoch: {last}", draw)


def _last_measure(histories: Sequence[History], measure: Measure) -> str:
    return in_figures(fmean(history.held_out_measures[-1] for history in histories), measure)


def _draw_measure(axes: Axes, models: Sequence[EvaluatedModel], words: str, factor: int) -> None:
    _draw_lines(axes, models, lambda history: [history.held_out_measures], factor)
    axes.set_ylabel(words if factor == 1 else f"{words}, %")
    add_legend(axes)


def _with_history(student: Student, teachers: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
    return [model for model in (*teachers, *student.both) if model.histories]


def _accuracies(history: History) -> Sequence[float]:
    """The accuracies after each epoch: on held-out samples if there are any, else on the training data."""
    return history.held_out_accuracies or history.train_accuracies


def _said_of(models: Sequence[EvaluatedModel], say: Callable[[Sequence[History]], str]) -> str:
    """A sentence part for each model: what `say` makes of its histories, which are one for each seed."""
    said = []
    for model in models:
        seeds = len(model.histories)
        mean = f" (mean of {seeds} seeds)" if seeds > 1 else ""
        said.append(f"{short_name(model)} {say(model.histories)}{mean}")
    return "; ".join(said)


def _draw_lines(
    axes: Axes, models: Sequence[EvaluatedModel], lines_of: Callable[[History], Lines], factor: float = 1
) -> None:
    """Lines of each history, by epoch: a full one, and a faint one if there is a second."""
    of_teachers = cycle(TEACHER_DASHES)
    for model in models:
        dashes = next(of_teachers) if model.role == "teacher" else DASHES[model.role]
        look: dict[str, Any] = {"linestyle": dashes, "color": COLOURS[model.role], "zorder": LAYERS[model.role]}
        for number, history in enumerate(model.histories):
            for place, line in enumerate(lines_of(history)):
                values = [factor * each for each in line]
                label = short_name(model) if number == place == 0 else None
                marker, alpha = "." if len(values) < 10 else None, 0.45 if place else 1.0
                if values:
                    axes.plot(range(1, len(values) + 1), values, label=label, marker=marker, alpha=alpha, **look)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if all(np.size(line.get_xdata()) == 1 for line in axes.lines):
        axes.set(xlim=(0.5, 1.5), xticks=[1])
