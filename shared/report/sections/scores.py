"""Scores and costs of every model, and what the teacher brought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill_queue.shared.plan.description import details, trained
from distill_queue.shared.report.drawing import height_of_rows, name_rows
from distill_queue.shared.report.entries import EvaluatedModel, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import not_drawn
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.sentences import estimated, percent
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.results.class_scores import ClassScores
from distill_queue.shared.results.measure import BY_CLASS
from distill_queue.shared.results.records import ClassesRecord


def section(facts: ReportFacts) -> Section:
    """Tables of every model's scores and costs; a figure of gains, if these are several or have an interval."""
    with_gain = [student for student in facts.students if student.score.gain]
    has_interval = any(student.score.gain and student.score.gain.low is not None for student in with_gain)
    pictures = (gains(with_gain),) if len(with_gain) > 1 or has_interval else ()
    models = tuple(_with_controls_below(facts))
    best = facts.best(1)[0].model.name if len(facts.students) > 1 else ""
    by_name = {student.model.name: student for student in facts.students}
    by_class = ("balanced accuracy", "macro F1") if facts.by_class else ()
    columns: tuple[str, ...] = (
        "model", "accuracy", *by_class, "NLL", "agrees", "gain", "gap closed", "off by", "trained in",
    )  # fmt: skip
    rows = tuple(_score(model, by_name.get(model.name), facts) for model in models)
    about = tuple(_about(model, facts) for model in models)
    scores = Table(f"Scores on {facts.dataset.test_samples:,} test samples", columns, rows, about=about, best=best)
    columns = ("model", "parameters", "multiply-adds", "kB on disk", "ms at batch 1", "95 %", "samples/s")
    devices = " and ".join(sorted({each.device for model in models for each in model.evaluations}))
    costs = Table(f"Costs on {devices}", columns, tuple(map(_costs, _with_costs_of_their_own(facts))))
    text = (
        "NLL is the mean negative log-likelihood in nats. Agrees: share of the samples on which model and teacher "
        "choose the same class. Gain: points over the control, which is the same student trained without the teacher; "
        "with several seeds ± half of the 95 % interval; a gain from one seed is not told apart from chance. Off by: "
        "expected calibration error in points. A control costs as much as its student; times are the best measurement "
        "of all models that are built alike."
    )
    if by_class:
        text += " Balanced accuracy and macro F1: means of recall and F1 over the classes that have test samples."
    if any(student.score.teacher for student in facts.students):
        text += " A student that another one taught agrees with that one; its gap is that to the pipeline's teacher."
    return Section("Scores and costs", text, pictures, (scores, costs), notes=not_drawn(facts))


def gains(students: Sequence[Student]) -> Picture:
    """What the teacher brought each student, with its interval."""
    gains = [(student.score.name, student.score.gain) for student in students if student.score.gain]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOURS["muted"], linewidth=1)
        for row, (_, gain) in enumerate(gains):
            if gain.low is not None and gain.high is not None:
                axes.plot([100 * gain.low, 100 * gain.high], [row, row], color=COLOURS["student"])
            axes.plot(100 * gain.mean, row, "o", color=COLOURS["student"])
        name_rows(axes, [f"{plain(name, 16)}: {estimated(gain)}" for name, gain in gains])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("points over the control")

    says = "gain in points: " + "; ".join(f"{name} {estimated(gain)}" for name, gain in gains)
    return Picture.drawn("gains", "What the teacher brought", says, draw, height=height_of_rows(len(gains)))


def _with_controls_below(facts: ReportFacts) -> Iterator[EvaluatedModel]:
    """Teachers, then each student and below it its control, unless that stands higher up already."""
    yield from (model for model in facts.models if model.role == "teacher")
    shown = []
    for student in facts.students:
        yield student.model
        if student.control and student.control.evaluations not in shown:
            yield student.control
            shown.append(student.control.evaluations)


def _with_costs_of_their_own(facts: ReportFacts) -> Iterator[EvaluatedModel]:
    """Teachers, students, and those controls that were chosen from a grid of models and so have another size."""
    yield from (model for model in facts.models if model.role == "teacher")
    for student in facts.students:
        yield student.model
        if student.control and student.control.parameters != student.model.parameters:
            yield student.control


def _about(model: EvaluatedModel, facts: ReportFacts) -> str:
    """What a model is, and how it was trained."""
    plan = facts.status.plan
    for runs, student in zip(plan.students, facts.students, strict=True):
        seed = runs.seeds[0]
        seeds = (f"{len(runs.seeds)} seeds",) if len(runs.seeds) > 1 else ()
        if model is student.model:
            made = trained(plan, runs.role(seed), student.score.choice, seed)
            return " · ".join((*details(made), *runs.taught, *seeds))
        if model is student.control:
            made = trained(plan, runs.control(seed), student.score.control_choice, seed)
            return " · ".join((*details(made), *seeds))
    return " · ".join(details(trained(plan, model.name)))


def _score(model: EvaluatedModel, student: Student | None, facts: ReportFacts) -> tuple[str, ...]:
    each, score = model.evaluations, student.score if student else None
    seconds = [one.training_seconds for one in each if one.training_seconds is not None]
    agreements = [one.agreement for one in each if one.agreement is not None]
    return (
        model.name,
        percent(model.accuracy, 2),
        *(_by_class(model, facts) if facts.by_class else ()),
        f"{fmean(one.negative_log_likelihood for one in each):.3f}",
        percent(fmean(agreements)) if agreements and model.role != "teacher" else "",
        estimated(score.gain) if score and score.gain else "",
        percent(score.gap_closed.mean, 0) if score and score.gap_closed else "",
        "" if facts.targets is None or not model.predictions else f"{100 * model.calibration(facts.targets).error:.1f}",
        f"{fmean(seconds):.1f} s" if seconds else "",
    )


def _by_class(model: EvaluatedModel, facts: ReportFacts) -> tuple[str, ...]:
    """Balanced accuracy and macro F1, means over the seeds: as recorded, else of the predictions; or nothing."""
    found: list[ClassesRecord | ClassScores] = [each.classes for each in model.evaluations if each.classes]
    if not found and facts.targets is not None:
        found = list(model.class_scores(facts.targets, facts.dataset.classes))
    return tuple(percent(fmean(getattr(each, name) for each in found), 2) if found else "" for name in BY_CLASS)


def _costs(model: EvaluatedModel) -> tuple[str, ...]:
    first = model.evaluations[0]
    return (
        model.name,
        first.parameters_in_words,
        f"{first.multiply_adds:,}",
        f"{first.size_bytes / 1000:,.0f}",
        f"{model.latency_ms:.3f}",
        f"{model.fastest.latency_p95_ms:.3f}",
        f"{model.fastest.throughput:,.0f}",
    )
