"""Names beside the points of a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from distill_queue.shared.report.svg import COLOURS

#: How far names may stand from their points, in pixels.
DISTANCES = (8, 18, 30, 45, 60, 80, 100)
#: Pixels of distance that count as much as one more overlap.
PIXELS_OF_A_HIT = 90


def write_names(
    axes: Axes, points: Sequence[tuple[float, float]], front: Sequence[int], names: Mapping[int, str]
) -> None:
    """Write names beside points: within the axes, and over as few other names, points and lines as possible."""
    figure = axes.get_figure(root=True)
    if figure:
        figure.draw_without_rendering()  # Only now it is known how large the axes are.
    places = axes.transData.transform(points)
    taken = np.array([*(np.hstack([place - 5, place + 5]) for place in places), *_steps(places[front])])
    named = np.empty((0, 4))
    for number in sorted(names, key=lambda number: -points[number][1]):
        place = places[number]
        text = axes.annotate(names[number], points[number], (0, 0), textcoords="offset points", va="bottom",
                             fontsize=11.5)  # fmt: skip
        text.set_in_layout(False)
        size = np.array(text.get_window_extent().size)
        box, line = free_place(place, size, taken, named, np.array(axes.bbox.extents))
        text.set_position(box[:2] - place)
        if np.hypot(*(line[-1] - place)) > 1.5 * DISTANCES[0]:
            look = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            pointer = axes.annotate("", points[number], line[-1] - place, textcoords="offset points", arrowprops=look)
            pointer.set_in_layout(False)
        taken, named = np.vstack([taken, box, np.hstack([line, line])]), np.vstack([named, box])


def free_place(
    place: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    taken: npt.NDArray[np.float64],
    names: npt.NDArray[np.float64],
    bounds: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A near and free box `[left, bottom, right, top]` for a name, and points `[points, 2]` of a line to it."""
    ways = np.array([way for way in product(DISTANCES, (1, -1, 0), (0, 1, -1)) if way[1:] != (0, 0)])
    distances, sides = ways[:, :1], ways[:, 1:]
    corners = place + sides * distances - size * (1 - sides) / 2
    boxes = np.hstack([corners, corners + size])
    ends = np.clip(place, boxes[:, :2], boxes[:, 2:])
    lines = place + np.linspace(0, 1, 12)[:, None] * (ends - place)[:, None]
    outside = (boxes[:, :2] < bounds[:2]).any(1) | (boxes[:, 2:] > bounds[2:]).any(1)
    hits = overlaps(boxes, taken).sum(1) + overlaps(np.concatenate([lines, lines], 2), names).any(1).sum(1)
    best = int(np.argmin(outside * len(taken) + hits + distances[:, 0] / PIXELS_OF_A_HIT))
    return boxes[best], lines[best]


def overlaps(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether each of the boxes `[…, 4]` overlaps each of the others `[others, 4]`: `[…, others]`."""
    boxes = boxes[..., None, :]
    return np.all((boxes[..., :2] <= others[:, 2:]) & (boxes[..., 2:] >= others[:, :2]), axis=-1)


def _steps(places: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.float64]]:
    """The steps of a staircase through points `[points, 2]`: horizontal and vertical lines, as boxes of no width."""
    for here, there in pairwise(places):
        yield np.hstack([here, (there[0], here[1])])
        yield np.hstack([(there[0], here[1]), there])
