"""Accuracy against size and latency."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from distill_queue.shared.report.drawing import MARKERS, add_legend, marker_look, set_round_ticks, short_number
from distill_queue.shared.report.entries import EvaluatedModel, ExportedFile
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.point_names import write_names
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture, plain

#: What the figures compare.
Priced = EvaluatedModel | ExportedFile
#: Most models that are named in a figure, and most that its caption names.
MOST_NAMES, MOST_SAID = 10, 5


def section(facts: ReportFacts) -> Section:
    """Accuracy against the number of parameters, against latency, and against bytes where there are exported files."""
    files = [file for student in facts.students for file in student.files]
    priced: list[Priced] = [*facts.models, *files]
    sizes = [float(model.parameters) for model in facts.models]
    latencies = [each.latency_ms for each in priced]
    devices = sorted({evaluation.device for model in facts.models for evaluation in model.evaluations})
    text = (
        f"Accuracies are means over the seeds. Latency on {' and '.join(devices)}: the lowest of all models with the "
        "same numbers of parameters and multiply-adds, such as a student and its control with all seeds. The dotted "
        "line is the Pareto front: no model is more accurate at the same cost or less."
    )
    pictures: tuple[Picture, ...] = (
        accuracy_by_cost(facts.models, sizes, "size", "Accuracy against size", "parameters"),
        accuracy_by_cost(priced, latencies, "latency", "Accuracy against latency", "ms a sample at batch 1"),
    )
    if files:
        runtimes = sorted({file.runtime for student in facts.students for file in student.score.exports})
        text += (
            f" Exported files are of the first seed's model; their latency is that of {' and '.join(runtimes)} on a "
            "processor, with one thread."
        )
        bytes_ = [float(each.size_bytes) for each in priced]
        pictures += (accuracy_by_cost(priced, bytes_, "bytes", "Accuracy against bytes", "bytes of the file"),)
    named = sum(each.role != "control" for each in priced)
    notes = (
        f"Of {named} teachers{', students and files' if files else ' and students'}, only those have names that no "
        f"other one beats at the same cost or less, at most the {MOST_NAMES} most accurate ones.",
    )
    return Section("Accuracy against cost", text, pictures, notes=notes if named > MOST_NAMES else ())


def accuracy_by_cost(models: Sequence[Priced], costs: Sequence[float], name: str, title: str, unit: str) -> Picture:
    """Accuracy against one cost of each model; `unit` is the title of that axis."""
    points = [(cost, 100 * model.accuracy) for cost, model in zip(costs, models, strict=True)]
    # Rounded: a share that was counted in two libraries may differ in its last digit.
    front = pareto_front(costs, [round(accuracy, 6) for _, accuracy in points])
    named = _named(models, costs)

    def draw(axes: Axes) -> None:
        for role in MARKERS:
            of_role = [point for point, model in zip(points, models, strict=True) if model.role == role]
            if of_role:
                axes.plot(*zip(*of_role, strict=True), linestyle="none", label=role, **marker_look(role))
        axes.plot(*zip(*(points[place] for place in front), strict=True), label="front",
                  color=COLOURS["muted"], linewidth=1, linestyle=":", drawstyle="steps-post")  # fmt: skip
        low, high = min(costs), max(costs)
        low, high = low / max(1.6, (high / low) ** 0.2), high * max(1.6, (high / low) ** 0.2)  # Room for names.
        axes.set_xscale("log")
        set_round_ticks(axes.xaxis, low, high)
        axes.set_xlim(low, high)
        axes.margins(y=0.2)
        axes.set(xlabel=unit, ylabel="accuracy, %")
        add_legend(axes, columns=4)
        write_names(axes, points, front, {place: plain(models[place].name) for place in named})

    said = front[-MOST_SAID:]
    says = "on the front: " + "; ".join(
        f"{models[place].name} {percent(models[place].accuracy)} with {short_number(costs[place])} {unit}"
        for place in said
    )
    if len(said) < len(front):
        says += f"; and {len(front) - len(said)} cheaper ones"
    return Picture.drawn(name, title, says, draw)


def _named(models: Sequence[Priced], costs: Sequence[float]) -> list[int]:
    """Indices of the models to name: teachers and students; of many, the most accurate ones on their front."""
    able = [place for place, model in enumerate(models) if model.role != "control"]
    front = pareto_front([costs[place] for place in able], [models[place].accuracy for place in able])
    return able if len(able) <= MOST_NAMES else [able[place] for place in front[-MOST_NAMES:]]


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Indices of the models that no other one equals or beats at a lower cost, the cheapest first."""
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place])):
        if not front or accuracies[place] > accuracies[front[-1]]:
            front.append(place)
    return front
