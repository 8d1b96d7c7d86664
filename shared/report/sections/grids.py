"""The points of grids from which students or controls were chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from distill_queue.shared.report.drawing import height_of_rows, name_rows, shade_cells
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.results.measure import WORDS, Measure, best_place, in_figures
from distill_queue.shared.results.records import ChoiceRecord
from distill_queue.shared.spec.grid import values_of

#: The most points of a grid that stand in a table.
MOST_POINTS = 24


def section(facts: ReportFacts) -> Section | None:
    """How good each point of each grid is on held-out samples; None where there is no grid."""
    choices = [
        (f"{score.name}{suffix}", choice)
        for score in (student.score for student in facts.students)
        for suffix, choice in (("", score.choice), ("/control", score.control_choice))
        if choice
    ]
    if not choices:
        return None
    planes, others = [], []
    for number, (name, choice) in enumerate(choices):
        values = values_of(choice.labels)
        if _is_plane(values):
            planes.append(grid(choice, name, values, f"grid-{number}"))
        else:
            others.append(_best_points(name, choice))
    measured = " or ".join(dict.fromkeys(WORDS[choice.measure] for _, choice in choices))
    text = (
        f"{measured[0].upper()}{measured[1:]} on {facts.dataset.validation_samples:,} samples that are held out of the "
        "training data, mean over the seeds. Only the best point of a grid saw the test samples."
    )
    return Section("Sweep", text, tuple(planes), tuple(others))


def grid(choice: ChoiceRecord, whose: str, values: Sequence[dict[str, str]], name: str) -> Picture:
    """Held-out accuracy of a grid's points, which differ in one thing or two: a row a point, or a heat map.

    `values` holds for each point the values in which the points differ, by name.
    """
    best = _figure(choice, choice.best)
    says = f"best is {choice.labels[choice.best]}{choice.tie}: {best} held out"
    names = list(values[0])
    axis = [list(dict.fromkeys(value[each] for value in values)) for each in names]
    title = f"{whose}: {len(choice.labels)} points of its grid"
    if len(names) == 1:
        return Picture.drawn(name, title, says, partial(_draw_points, choice), height=height_of_rows(len(values)))
    across, down = (0, 1) if len(axis[0]) > len(axis[1]) else (1, 0)
    accuracies = np.zeros((len(axis[down]), len(axis[across])))
    for value, accuracy in zip(values, choice.held_out, strict=True):
        row, column = (axis[each].index(value[names[each]]) for each in (down, across))
        accuracies[row, column] = accuracy

    def draw(axes: Axes) -> None:
        columns, rows = ([plain(each, 12) for each in axis[place]] for place in (across, down))
        _draw_heat_map(axes, accuracies, columns, rows, choice.measure)
        axes.set(xlabel=plain(names[across]), ylabel=plain(names[down]))

    return Picture.drawn(name, title, says, draw, height=100 + 34 * len(axis[down]))


def _draw_points(choice: ChoiceRecord, axes: Axes) -> None:
    factor, unit = (1, "") if choice.measure == "loss" else (100, ", %")
    for row, accuracy in enumerate(choice.held_out):
        fill = COLOURS["student"] if row == choice.best else "none"
        axes.plot(factor * accuracy, row, "o", color=COLOURS["student"], markerfacecolor=fill)
    name_rows(axes, [plain(label, 26) for label in choice.labels])
    axes.set_xlabel(f"{WORDS[choice.measure]} on held-out samples{unit}")


def _figure(choice: ChoiceRecord, place: int) -> str:
    """How good a point is, with its unit."""
    value = choice.held_out[place]
    return in_figures(value, "loss") if choice.measure == "loss" else percent(value, 2)


def _draw_heat_map(
    axes: Axes, accuracies: npt.NDArray[np.float64], columns: list[str], rows: list[str], measure: Measure
) -> None:
    """The accuracies `[rows, columns]`, or another measure, in shades and words, the best in a frame."""
    spread = max(float(np.ptp(accuracies)), 1e-9)
    shades = 0.08 + 0.87 * (accuracies - accuracies.min()) / spread
    words = [[f"{each:.3f}" if measure == "loss" else f"{100 * each:.1f}" for each in row] for row in accuracies]
    shade_cells(axes, shades, words, columns, rows)
    row, column = np.unravel_index(best_place(accuracies.flatten().tolist(), measure), accuracies.shape)
    place = (column - 0.46, row - 0.46)
    axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor=COLOURS["ink"], linewidth=2))


def _is_plane(values: Sequence[dict[str, str]]) -> bool:
    """Whether points differ in one thing, or in two in all combinations."""
    sizes = [len({value[name] for value in values}) for name in values[0]]
    return 0 < len(sizes) <= 2 and math.prod(sizes) == len(values)


def _best_points(name: str, choice: ChoiceRecord) -> Table:
    """The best points of a grid that is no plane."""
    sign = 1 if choice.measure == "loss" else -1
    places = sorted(range(len(choice.labels)), key=lambda place: sign * choice.held_out[place])[:MOST_POINTS]
    best = f", the best {len(places)}" if len(places) < len(choice.labels) else ""
    rows = tuple((choice.labels[place], _figure(choice, place)) for place in places)
    tie = choice.tie and f"; the best is{choice.tie.removeprefix(',')}"
    caption = f"{name}: {len(choice.labels)} points of its grid{best}{tie}"
    return Table(caption, ("point", "held out"), rows, best=choice.labels[choice.best])
