"""How often models are right, by how sure they are."""

from __future__ import annotations

from matplotlib.axes import Axes

from distill_queue.shared.report.drawing import DASHES, add_legend, marker_look, short_name
from distill_queue.shared.report.entries import EvaluatedModel, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import MOST_STUDENTS, fewer_students, not_shown
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.svg import COLOURS, Picture
from distill_queue.shared.results.calibration import BINS
from distill_queue.shared.results.predictions import Targets

#: Fewest samples of a bin of confidence that are shown.
FEWEST_SAMPLES = 5


def section(facts: ReportFacts) -> Section:
    """How sure the best students, their teacher and their controls are, and how often they are right."""
    title = "Calibration"
    text = (
        f"How often a model is right, by how sure it is, in {BINS} bins of confidence over all seeds; on the dotted "
        f"line it is right as often as it is sure. Bins of fewer than {FEWEST_SAMPLES} samples are left out. Off by: "
        "expected calibration error in points (Guo et al. 2017)."
    )
    pictures: tuple[Picture, ...] = ()
    if facts.targets is not None:
        shown = [each for each in facts.best(MOST_STUDENTS) if each.model.predictions]
        of = (facts.teacher, facts.targets)
        pictures = tuple(reliability(each, *of, f"calibration-{number}") for number, each in enumerate(shown))
    return Section(title, text, pictures, notes=(*fewer_students(facts), *not_shown(facts, "predictions")))


def reliability(student: Student, teacher: EvaluatedModel | None, targets: Targets, name: str) -> Picture:
    """How often teacher, student and control are right, by how sure they are."""
    models = [model for model in (teacher, *student.both) if model and model.predictions]
    found = {model.role: model.calibration(targets) for model in models}

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linewidth=1, linestyle=":")
        for model in models:
            of = found[model.role]
            bins = of.samples >= FEWEST_SAMPLES
            confidence, accuracy = (100 * each[bins] / of.samples[bins] for each in (of.confidences, of.hits))
            look = marker_look(model.role)
            axes.plot(confidence, accuracy, linestyle=DASHES[model.role], label=short_name(model), **look)
        axes.set(xlim=(0, 101), ylim=(0, 101), xlabel="confidence, %", ylabel="right, %")
        add_legend(axes)

    says = "off by, in points: " + "; ".join(
        f"{short_name(model)} {100 * found[model.role].error:.1f}" for model in models
    )
    return Picture.drawn(name, f"{student.score.name}: right as often as sure?", says, draw)
