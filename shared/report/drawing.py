"""What the figures of several sections share: how models look, rows, cells, legends and numbers on axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from distill_queue.shared.report.entries import EvaluatedModel
from distill_queue.shared.report.svg import COLOURS, HEIGHT, plain

#: How a model of each role, or an exported file, looks: marker, and dashes of its lines.
MARKERS = {"teacher": "s", "student": "o", "control": "^", "file": "D"}
DASHES = {"teacher": "-", "student": "-", "control": (0, (5, 1.5))}
#: The order in which marks are drawn: a higher number lies on top.
LAYERS = {"teacher": 3, "control": 4, "student": 5, "file": 6}
#: Share above which a cell of a heat map is so dark that its text is of another colour.
DARK = 0.73
#: Share below which a cell is not drawn, and the number of columns above which cells have no words.
LIGHTEST, MOST_WORDS = 0.004, 12
#: Most numbers on a logarithmic axis.
MOST_TICKS = 6


def marker_look(role: str) -> dict[str, Any]:
    """How the mark of a model of a role looks, as options of `Axes.plot`."""
    colour = COLOURS["labels" if role == "file" else role]
    fill = "none" if role == "control" else colour
    look = {"marker": MARKERS[role], "color": colour, "markerfacecolor": fill, "markersize": 6}
    return look | {"zorder": LAYERS[role]}


def short_name(model: EvaluatedModel) -> str:
    """The name of a model in a figure that has one model of each role."""
    return "control" if model.role == "control" else plain(model.name)


def name_rows(axes: Axes, names: list[str]) -> None:
    """Name the rows of a figure, the first one at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def height_of_rows(rows: int) -> int:
    """The height of a figure of so many rows, in CSS pixels."""
    return min(HEIGHT, 60 + 28 * rows) if rows < 8 else 60 + 22 * rows


def add_legend(axes: Axes, columns: int = 3) -> None:
    """A legend that begins at the figure's edge: axes beside long names are narrow."""
    axes.figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2, handletextpad=0.5)


def shade_cells(
    axes: Axes, shades: npt.NDArray[np.float64], words: list[list[str]], columns: list[str], rows: list[str]
) -> None:
    """A table of shades from 0 to 1, with words in its cells where there is room for them."""
    for (row, column), shade in np.ndenumerate(shades):
        if shade >= LIGHTEST:
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=COLOURS["heat"], edgecolor="none", alpha=shade)
            axes.add_patch(cell)
        if words and words[row][column] and len(columns) <= MOST_WORDS:
            colour = COLOURS["on-heat" if shade > DARK else "on-pale"]
            axes.text(column, row, words[row][column], ha="center", va="center", fontsize=10.5, color=colour)
    axes.grid(visible=False)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 4 else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=11.5 if len(rows) <= MOST_WORDS else 10)


def set_round_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis with a few round numbers."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= MOST_TICKS:
            break
    ticks = ticks[:: -(-len(ticks) // MOST_TICKS)] if ticks else [low, high]
    axis.set_ticks(ticks, [short_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def short_number(value: float) -> str:
    """A number in few letters: 101,770 is 102k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
