"""The figures of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise, product
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from distill_queue.shared.report.facts import (
    Graded,
    ReportFacts,
    Student,
    class_accuracies,
    most_confused,
    pareto_front,
)
from distill_queue.shared.report.sentences import estimated, percent
from distill_queue.shared.report.svg import COLOURS, HEIGHT, Picture, plain
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import Targets
from distill_queue.shared.results.records import ChoiceRecord
from distill_queue.shared.results.stage_record import StageRecord

#: How a model of each role looks: marker, and dashes of its lines.
MARKERS = {"teacher": "s", "student": "o", "control": "^"}
DASHES = {"teacher": "-", "student": "-", "control": (0, (5, 1.5))}
#: Dashes of the first teacher's lines, the second's …
OF_TEACHERS = ("-", ":", "-.")
#: Rows by which a role's marks stand under the middle of their row, so that none hides another.
SHIFTS = {"teacher": -0.27, "student": 0.0, "control": 0.27}
#: What lies on what.
ORDER = {"teacher": 3, "control": 4, "student": 5}
#: Most models that are named in a figure, most that its caption names, and most classes.
MOST_NAMES, MOST_SAID, MOST_CLASSES = 10, 5, 20
#: Share above which a cell of a heat map is so dark that its text is of another colour.
DARK = 0.73
#: Share under which a cell is left out, and most columns for which cells have words.
LIGHTEST, MOST_WORDS = 0.004, 12
#: Most numbers on a logarithmic axis.
MOST_TICKS = 6
#: Ratio of largest to smallest loss from which on their axis is logarithmic.
WIDE = 20
#: How far names may stand from their points, in pixels.
DISTANCES = (8, 18, 30, 45, 60, 80, 100)
#: Pixels that are as bad as to lie on one thing more.
FAR = 90
#: Fewest samples of a bin of confidence that are shown.
FEWEST = 5
#: Which colour stands for what kind of stage.
TIMELINE_KINDS = {
    "train_teacher": "teacher",
    "load_teacher": "teacher",
    "join_teachers": "teacher",
    "soft_labels": "labels",
    "import_soft_labels": "labels",
    "distill": "student",
    "train_control": "control",
    "choose": "evaluation",
    "evaluate": "evaluation",
}
WORK = {
    "teacher": "teacher",
    "labels": "soft labels",
    "student": "students",
    "control": "controls",
    "evaluation": "choice, evaluation",
    "other": "data, report",
}


def accuracy_by_size(facts: ReportFacts) -> Picture:
    """Accuracy against the number of parameters."""
    costs = [float(model.parameters) for model in facts.models]
    return _accuracy_by(facts.models, costs, "size", "Accuracy against size", "parameters")


def accuracy_by_latency(facts: ReportFacts) -> Picture:
    """Accuracy against the time of a forward pass."""
    costs = [model.latency_ms for model in facts.models]
    return _accuracy_by(facts.models, costs, "latency", "Accuracy against latency", "ms a sample at batch 1")


def gains(students: Sequence[Student]) -> Picture:
    """What the teacher brought each student, with its interval."""
    gains = [(student.score.name, student.score.gain) for student in students if student.score.gain]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOURS["muted"], linewidth=1)
        for row, (_, gain) in enumerate(gains):
            if gain.low is not None and gain.high is not None:
                axes.plot([100 * gain.low, 100 * gain.high], [row, row], color=COLOURS["student"])
            axes.plot(100 * gain.mean, row, "o", color=COLOURS["student"])
        _rows(axes, [f"{plain(name, 16)}: {estimated(gain)}" for name, gain in gains])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("points over the control")

    says = "gain in points: " + "; ".join(f"{name} {estimated(gain)}" for name, gain in gains)
    return Picture.drawn("gains", "What the teacher brought", says, draw, height=_height(len(gains)))


def learning_curve(student: Student, teachers: Sequence[Graded], name: str) -> Picture:
    """Accuracy after each epoch of teachers, student and control."""
    models = _with_history(student, teachers)
    held_out = any(history.held_out_accuracies for model in models for history in model.histories)

    def draw(axes: Axes) -> None:
        for model, dashes in zip(models, _dashes(models), strict=True):
            for number, history in enumerate(model.histories):
                label = _short(model) if number == 0 else None
                _line(axes, model.role, dashes, [100 * each for each in _accuracies(history)], label)
                if held_out:
                    _line(axes, model.role, dashes, [100 * each for each in history.train_accuracies], None, faint=True)
        _epochs(axes)
        axes.set_ylabel("accuracy, %")
        _legend_above(axes)

    last = "; ".join(
        f"{_short(model)} {percent(fmean(_accuracies(history)[-1] for history in model.histories))}{_over(model)}"
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
                _line(axes, model.role, dashes, history.losses, _short(model) if number == 0 else None)
        _epochs(axes)
        losses = [loss for model in models for history in model.histories for loss in history.losses]
        if min(losses) > 0 and max(losses) > WIDE * min(losses):
            axes.set_yscale("log")
            _number_roundly(axes.yaxis, min(losses), max(losses))
        axes.set_ylabel("loss")
        _legend_above(axes)

    last = "; ".join(
        f"{_short(model)} {fmean(history.losses[-1] for history in model.histories):.3g}{_over(model)}"
        for model in models
    )
    return Picture.drawn(name, f"{student.score.name}: loss by epoch", f"After the last epoch: {last}", draw)


def confusion(model: Graded, targets: Targets, class_names: Sequence[str], name: str) -> Picture:
    """Which classes a model takes for which: all, or the most confused ones."""
    counts = model.confusion(targets, len(class_names))
    shown = most_confused(counts, MOST_CLASSES)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [plain(class_names[label], 12) for label in shown]

    def draw(axes: Axes) -> None:
        if len(shown) > MOST_WORDS:
            # Beside the right ones, which are nearly all, no wrong one would be seen.
            wrong = _off_diagonal(shares)
            _cells(axes, wrong / max(wrong.max(), 1e-9), [], names, names)
            axes.plot([-0.5, len(shown) - 0.5], [-0.5, len(shown) - 0.5], color=COLOURS["muted"], linewidth=1)
        else:
            _cells(axes, shares, [[_whole_percent(share) for share in row] for row in shares], names, names)
        axes.set_xlabel("given class")
        axes.set_ylabel("class")

    wrong = _off_diagonal(counts)
    label, given = map(int, np.unravel_index(int(wrong.argmax()), wrong.shape))
    samples = max(int(counts[label].sum()), 1)
    says = "no sample is given a wrong class"
    if wrong.any():
        share = percent(wrong[label, given] / samples)
        says = (
            f"most often {plain(class_names[label])} is taken for {plain(class_names[given])}: {share} of its samples"
        )
        if len(shown) > MOST_WORDS:
            says += f"; only the wrong ones are shaded, the darkest is {percent(_off_diagonal(shares).max())}"
    some = f", the {len(shown)} most confused of {len(class_names)} classes" if len(shown) < len(class_names) else ""
    return Picture.drawn(name, f"{model.name}{some}", says, draw, height=380)


def accuracy_by_class(
    student: Student, teacher: Graded | None, targets: Targets, names: Sequence[str], name: str
) -> Picture:
    """Accuracy of teacher, student and control on each class: all, or the student's worst ones."""
    models = [model for model in (teacher, *student.both) if model and model.predictions]
    accuracies = {model.role: class_accuracies(model.confusion(targets, len(names))) for model in models}
    of_student = accuracies["student"]
    shown = [label for label in np.argsort(of_student, kind="stable") if not np.isnan(of_student[label])]
    shown = shown[:MOST_CLASSES]

    def draw(axes: Axes) -> None:
        for model in models:
            values = 100 * accuracies[model.role][shown]
            rows = np.arange(len(shown)) + SHIFTS[model.role]
            axes.plot(values, rows, linestyle="none", label=_short(model), **_marker(model.role))
        axes.hlines(np.arange(len(shown) - 1) + 0.5, 0, 1, transform=axes.get_yaxis_transform(),
                    color=COLOURS["grid"], linewidth=0.8)  # fmt: skip
        _rows(axes, [plain(names[label], 16) for label in shown])
        axes.set_xlabel("accuracy, %")
        _legend_above(axes)

    says = "no class has a test sample"
    if shown:
        says = f"the student is worst on {plain(names[shown[0]])}: {percent(of_student[shown[0]])}"
    some = f", its {len(shown)} worst of {len(names)} classes" if len(shown) < len(names) else ", by class"
    return Picture.drawn(name, f"{student.score.name}{some}", says, draw, height=_height(len(shown)) + 20)


def reliability(student: Student, teacher: Graded | None, targets: Targets, name: str) -> Picture:
    """How often teacher, student and control are right, by how sure they are."""
    models = [model for model in (teacher, *student.both) if model and model.predictions]
    found = {model.role: model.calibration(targets) for model in models}

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linewidth=1, linestyle=":")
        for model in models:
            of = found[model.role]
            bins = of.samples >= FEWEST
            confidence, accuracy = (100 * each[bins] / of.samples[bins] for each in (of.confidences, of.hits))
            look = _marker(model.role)
            axes.plot(confidence, accuracy, linestyle=DASHES[model.role], label=_short(model), **look)
        axes.set(xlim=(0, 101), ylim=(0, 101), xlabel="confidence, %", ylabel="right, %")
        _legend_above(axes)

    says = "off by, in points: " + "; ".join(f"{_short(model)} {100 * found[model.role].error:.1f}" for model in models)
    return Picture.drawn(name, f"{student.score.name}: right as often as sure?", says, draw)


def grid(choice: ChoiceRecord, whose: str, values: Sequence[dict[str, str]], name: str) -> Picture:
    """Held-out accuracy of a grid's points, which differ in one thing or two: a row a point, or a heat map.

    `values` has, of each point, what tells it from the others by name.
    """
    says = f"best is {choice.labels[choice.best]}{choice.tie}: {percent(choice.held_out[choice.best], 2)} held out"
    names = list(values[0])
    axis = [list(dict.fromkeys(value[each] for value in values)) for each in names]
    title = f"{whose}: {len(choice.labels)} points of its grid"
    if len(names) == 1:
        return Picture.drawn(name, title, says, partial(_points, choice=choice), height=_height(len(values)))
    across, down = (0, 1) if len(axis[0]) > len(axis[1]) else (1, 0)
    draw = partial(
        _heat_map,
        choice=choice,
        values=values,
        across=(names[across], axis[across]),
        down=(names[down], axis[down]),
    )
    return Picture.drawn(name, title, says, draw, height=100 + 34 * len(axis[down]))


@dataclass(frozen=True, slots=True)
class _Span:
    """When a worker worked on something, in seconds since the pipeline was submitted."""

    row: int
    begin: float
    seconds: float
    colour: str
    found: bool


def time_by_worker(records: Sequence[StageRecord], submitted: float) -> Picture:
    """Which worker worked on what and when; those that were found are ticks."""
    workers = list(dict.fromkeys(record.worker for record in records))
    spans = [
        _Span(
            workers.index(record.worker),
            record.ended - record.seconds - submitted,
            record.seconds,
            TIMELINE_KINDS.get(record.kind, "other"),
            record.outcome == "found",
        )
        for record in records
    ]

    def draw(axes: Axes) -> None:
        for colour, label in WORK.items():
            of_kind = [span for span in spans if span.colour == colour]
            for span in of_kind:
                if span.found:
                    axes.plot(span.begin + span.seconds, span.row, "D", color=COLOURS[colour], markersize=5,
                              markerfacecolor="none")  # fmt: skip
                else:
                    axes.barh(span.row, span.seconds, 0.6, span.begin, color=COLOURS[colour])
            if of_kind:
                axes.barh(0, 0, color=COLOURS[colour], label=label)
        if any(span.found for span in spans):
            axes.plot([], [], "D", color=COLOURS["muted"], markersize=5, markerfacecolor="none", label="found")
        _rows(axes, [plain(worker, 40) for worker in workers])
        axes.set_xlim(min(0.0, *(span.begin for span in spans)))
        axes.set_xlabel("seconds since it was submitted")
        _legend_above(axes, columns=len(WORK) + 1)

    end = max(span.begin + span.seconds for span in spans)
    worked = sum(span.seconds for span in spans)
    says = f"{worked:.1f} s of work on {len(workers)} workers, done {end:.1f} s after it was submitted"
    return Picture.drawn("time", "Stages over workers", says, draw, height=_height(len(workers)) + 30, wide=True)


def _accuracy_by(models: Sequence[Graded], costs: list[float], name: str, title: str, unit: str) -> Picture:
    points = [(cost, 100 * model.accuracy) for cost, model in zip(costs, models, strict=True)]
    front = pareto_front(costs, [accuracy for _, accuracy in points])
    named = _named(models, costs)

    def draw(axes: Axes) -> None:
        for role in MARKERS:
            of_role = [point for point, model in zip(points, models, strict=True) if model.role == role]
            if of_role:
                axes.plot(*zip(*of_role, strict=True), linestyle="none", label=role, **_marker(role))
        axes.plot(*zip(*(points[place] for place in front), strict=True), label="front",
                  color=COLOURS["muted"], linewidth=1, linestyle=":", drawstyle="steps-post")  # fmt: skip
        low, high = min(costs), max(costs)
        low, high = low / max(1.6, (high / low) ** 0.2), high * max(1.6, (high / low) ** 0.2)  # Room for names.
        axes.set_xscale("log")
        _number_roundly(axes.xaxis, low, high)
        axes.set_xlim(low, high)
        axes.margins(y=0.2)
        axes.set(xlabel=unit, ylabel="accuracy, %")
        _legend_above(axes, columns=4)
        _name(axes, points, front, {place: plain(models[place].name) for place in named})

    said = front[-MOST_SAID:]
    says = "on the front: " + "; ".join(
        f"{models[place].name} {percent(models[place].accuracy)} with {_number(costs[place])} {unit}" for place in said
    )
    if len(said) < len(front):
        says += f"; and {len(front) - len(said)} cheaper ones"
    return Picture.drawn(name, title, says, draw)


def _named(models: Sequence[Graded], costs: Sequence[float]) -> list[int]:
    """The places of teachers and students; of many, of the most accurate ones on their front."""
    able = [place for place, model in enumerate(models) if model.role != "control"]
    front = pareto_front([costs[place] for place in able], [models[place].accuracy for place in able])
    return able if len(able) <= MOST_NAMES else [able[place] for place in front[-MOST_NAMES:]]


def _name(axes: Axes, points: Sequence[tuple[float, float]], front: Sequence[int], names: Mapping[int, str]) -> None:
    """Write names beside points: within the axes, and on as few other names, points and lines as can be."""
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
        box, line = _beside(place, np.array(text.get_window_extent().size), taken, named, np.array(axes.bbox.extents))
        text.set_position(box[:2] - place)
        if np.hypot(*(line[-1] - place)) > 1.5 * DISTANCES[0]:
            look = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            pointer = axes.annotate("", points[number], line[-1] - place, textcoords="offset points", arrowprops=look)
            pointer.set_in_layout(False)
        taken, named = np.vstack([taken, box, np.hstack([line, line])]), np.vstack([named, box])


def _steps(places: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.float64]]:
    """The lines from each place to the one above it, by way of its height: as boxes, like all below."""
    for here, there in pairwise(places):
        yield np.hstack([here, (there[0], here[1])])
        yield np.hstack([(there[0], here[1]), there])


def _beside(
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
    hits = _overlap(boxes, taken).sum(1) + _overlap(np.concatenate([lines, lines], 2), names).any(1).sum(1)
    best = int(np.argmin(outside * len(taken) + hits + distances[:, 0] / FAR))
    return boxes[best], lines[best]


def _overlap(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which boxes `[…, 4]` have something in common with which others `[others, 4]`: `[…, others]`."""
    boxes = boxes[..., None, :]
    return np.all((boxes[..., :2] <= others[:, 2:]) & (boxes[..., 2:] >= others[:, :2]), axis=-1)


def _number_roundly(axis: Axis, low: float, high: float) -> None:
    """Have a few round numbers stand on a logarithmic axis."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= MOST_TICKS:
            break
    ticks = ticks[:: -(-len(ticks) // MOST_TICKS)] if ticks else [low, high]
    axis.set_ticks(ticks, [_number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _points(axes: Axes, choice: ChoiceRecord) -> None:
    for row, accuracy in enumerate(choice.held_out):
        fill = COLOURS["student"] if row == choice.best else "none"
        axes.plot(100 * accuracy, row, "o", color=COLOURS["student"], markerfacecolor=fill)
    _rows(axes, [plain(label, 26) for label in choice.labels])
    axes.set_xlabel("accuracy on held-out samples, %")


def _heat_map(
    axes: Axes,
    choice: ChoiceRecord,
    values: Sequence[dict[str, str]],
    across: tuple[str, list[str]],
    down: tuple[str, list[str]],
) -> None:
    accuracies = np.zeros((len(down[1]), len(across[1])))
    for value, accuracy in zip(values, choice.held_out, strict=True):
        accuracies[down[1].index(value[down[0]]), across[1].index(value[across[0]])] = accuracy
    spread = max(float(np.ptp(accuracies)), 1e-9)
    shades = 0.08 + 0.87 * (accuracies - accuracies.min()) / spread
    words = [[f"{100 * each:.1f}" for each in row] for row in accuracies]
    columns, rows = ([plain(each, 12) for each in values] for _, values in (across, down))
    _cells(axes, shades, words, columns, rows)
    row, column = np.unravel_index(int(accuracies.argmax()), accuracies.shape)
    axes.add_patch(
        Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=COLOURS["ink"], linewidth=2)
    )
    axes.set(xlabel=plain(across[0]), ylabel=plain(down[0]))


def _cells(
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


def _whole_percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else ""


def _off_diagonal(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values * ~np.eye(len(values), dtype=bool)


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
    of_teachers = cycle(OF_TEACHERS)
    return [next(of_teachers) if model.role == "teacher" else DASHES[model.role] for model in models]


def _short(model: Graded) -> str:
    """What a model is called where there is one of each role."""
    return "control" if model.role == "control" else plain(model.name)


def _marker(role: str) -> dict[str, Any]:
    fill = "none" if role == "control" else COLOURS[role]
    look = {"marker": MARKERS[role], "color": COLOURS[role], "markerfacecolor": fill, "markersize": 6}
    return look | {"zorder": ORDER[role]}


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
            zorder=ORDER[role],
        )


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if all(np.size(line.get_xdata()) == 1 for line in axes.lines):
        axes.set(xlim=(0.5, 1.5), xticks=[1])


def _rows(axes: Axes, names: list[str]) -> None:
    """Name rows from above."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _legend_above(axes: Axes, columns: int = 3) -> None:
    """A legend that begins at the figure's edge: axes beside long names are narrow."""
    axes.figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2, handletextpad=0.5)


def _height(rows: int) -> int:
    return min(HEIGHT, 60 + 28 * rows) if rows < 8 else 60 + 22 * rows


def _number(value: float) -> str:
    """A number in few letters: 101,770 is 102k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
