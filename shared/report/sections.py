"""The sections of a report: figures, tables and images, and what is to be said of what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.description import details, trained
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.report import figures
from distill_queue.shared.report.facts import Graded, Lineage, Missing, ReportFacts, Student
from distill_queue.shared.report.images import are_images, data_uris
from distill_queue.shared.report.sentences import estimated, percent
from distill_queue.shared.report.svg import Picture, plain
from distill_queue.shared.results.calibration import BINS
from distill_queue.shared.results.predictions import Predictions
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.spec.grid import values_of
from distill_queue.shared.store.artifact import place_of

#: Students of which curves, confusions and calibration are shown: the best ones.
MOST_STUDENTS = 3
#: Images on which teacher and student disagree.
MOST_IMAGES = 24
#: Points of a grid that stand in a table.
MOST_POINTS = 24


#: Columns of names and keys, which may be broken anywhere on paper; the first one of a table may be, always.
BREAKING = frozenset(("key", "worker", "made on", "versions"))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading; all columns but the first `texts` ones hold numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    #: In a few words, what the first cell of each row is; or nothing.
    about: tuple[str, ...] = ()
    #: The first cell of the row that is marked as the best.
    best: str = ""

    def breaks(self, column: int) -> bool:
        """Whether a column's cells may be broken anywhere."""
        return self.columns[column] in BREAKING


@dataclass(frozen=True, slots=True)
class Listing:
    """Text to be copied, shown when asked for."""

    caption: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image, and what is said of it."""

    uri: str
    label: str
    teacher: str
    student: str
    #: Who is right.
    right: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    title: str
    text: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    samples: tuple[Sample, ...] = ()
    commands: tuple[str, ...] = ()
    listing: Listing | None = None
    #: What is not shown, and why.
    notes: tuple[str, ...] = ()
    #: Whether the tables are long, and shown when asked for.
    folded: bool = False


def sections(facts: ReportFacts) -> tuple[Section, ...]:
    """All sections, in the page's order."""
    return (
        _scores(facts),
        _cost(facts),
        *_grids(facts),
        _curves(facts),
        _confusion(facts),
        _calibration(facts),
        _disagreement(facts),
        _time(facts),
        _lineage(facts),
        _again(facts),
    )


def _scores(facts: ReportFacts) -> Section:
    with_gain = [student for student in facts.students if student.score.gain]
    pictures = (figures.gains(with_gain),) if len(with_gain) > 1 or _has_interval(with_gain) else ()
    models = tuple(_with_controls_below(facts))
    best = facts.best(1)[0].graded.name if len(facts.students) > 1 else ""
    gains = {student.graded.name: student for student in facts.students}
    columns: tuple[str, ...] = ("model", "accuracy", "NLL", "agrees", "gain", "gap closed", "off by", "trained in")
    rows = tuple(_score(model, gains.get(model.name), facts) for model in models)
    about = tuple(_about(model, facts) for model in models)
    scores = Table(f"Scores on {facts.dataset.test_samples:,} test samples", columns, rows, about=about, best=best)
    columns = ("model", "parameters", "multiply-adds", "kB on disk", "ms at batch 1", "95 %", "samples/s")
    devices = " and ".join(sorted({each.device for model in models for each in model.evaluations}))
    costs = Table(f"Costs on {devices}", columns, tuple(map(_costs, _with_costs_of_their_own(facts))))
    text = (
        "NLL is the mean negative log-likelihood in nats. Agrees: chooses the teacher's class. Gain: points over the "
        "control, which is the same student trained without the teacher; with several seeds ± half of the 95 % "
        "interval, with one not told apart from chance. Off by: expected calibration error in points. A control costs "
        "what its student does; times are the best measurement of all models that are built alike."
    )
    return Section("Scores and costs", text, pictures, (scores, costs))


def _with_controls_below(facts: ReportFacts) -> Iterator[Graded]:
    """Teachers, then each student above its control, as far as that does not stand above already."""
    yield from (model for model in facts.models if model.role == "teacher")
    shown = []
    for student in facts.students:
        yield student.graded
        if student.control and student.control.evaluations not in shown:
            yield student.control
            shown.append(student.control.evaluations)


def _with_costs_of_their_own(facts: ReportFacts) -> Iterator[Graded]:
    """Teachers and students; of the controls those that are chosen from a grid of models and so of another size."""
    yield from (model for model in facts.models if model.role == "teacher")
    for student in facts.students:
        yield student.graded
        if student.control and student.control.parameters != student.graded.parameters:
            yield student.control


def _about(model: Graded, facts: ReportFacts) -> str:
    """What a model is, and how it was trained."""
    plan = facts.status.plan
    for runs, student in zip(plan.students, facts.students, strict=True):
        seed = runs.seeds[0]
        seeds = (f"{len(runs.seeds)} seeds",) if len(runs.seeds) > 1 else ()
        if model is student.graded:
            return " · ".join((*details(trained(plan, runs.role(seed), student.score.choice, seed)), *seeds))
        if model is student.control:
            made = trained(plan, runs.control(seed), student.score.control_choice, seed)
            return " · ".join((*details(made), *seeds))
    return " · ".join(details(trained(plan, model.name)))


def _score(model: Graded, student: Student | None, facts: ReportFacts) -> tuple[str, ...]:
    each, score = model.evaluations, student.score if student else None
    agreements = [one.agreement for one in each if one.agreement is not None]
    return (
        model.name,
        percent(model.accuracy, 2),
        f"{fmean(one.negative_log_likelihood for one in each):.3f}",
        percent(fmean(agreements)) if agreements and model.role != "teacher" else "",
        estimated(score.gain) if score and score.gain else "",
        percent(score.gap_closed.mean, 0) if score and score.gap_closed else "",
        f"{100 * model.calibration(facts.targets).error:.1f}"
        if facts.targets is not None and model.predictions
        else "",
        _training(each),
    )


def _costs(model: Graded) -> tuple[str, ...]:
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


def _training(evaluations: Sequence[EvaluationRecord]) -> str:
    seconds = [each.training_seconds for each in evaluations if each.training_seconds is not None]
    return f"{fmean(seconds):.1f} s" if seconds else ""


def _has_interval(students: Sequence[Student]) -> bool:
    return any(student.score.gain and student.score.gain.low is not None for student in students)


def _cost(facts: ReportFacts) -> Section:
    devices = sorted({evaluation.device for model in facts.models for evaluation in model.evaluations})
    text = (
        f"Accuracies are means over the seeds. Latency on {' and '.join(devices)}: the least that was measured of "
        "models with as many parameters and multiply-adds, as a student, its control and all seeds have. The dotted "
        "line is the Pareto front: at that cost or less none is better."
    )
    pictures = (figures.accuracy_by_size(facts), figures.accuracy_by_latency(facts))
    named = sum(model.role != "control" for model in facts.models)
    notes = (
        (
            f"Of {named} teachers and students those have names that no other of them beats at its cost or less, "
            f"at most the {figures.MOST_NAMES} most accurate ones.",
        )
        if named > figures.MOST_NAMES
        else ()
    )
    return Section("Accuracy against cost", text, pictures, notes=notes)


def _grids(facts: ReportFacts) -> Iterator[Section]:
    """A section where anything was chosen from a grid."""
    choices = [
        (name, choice)
        for student in facts.students
        for name, choice in (
            (student.score.name, student.score.choice),
            (f"{student.score.name}/control", student.score.control_choice),
        )
        if choice
    ]
    if choices:
        planes, others = [], []
        for number, (name, choice) in enumerate(choices):
            values = values_of(choice.labels)
            if _is_plane(values):
                planes.append(figures.grid(choice, name, values, f"grid-{number}"))
            else:
                others.append(_points(name, choice))
        text = (
            f"Accuracy on {facts.dataset.validation_samples:,} samples that are held out of the training data, mean "
            "over the seeds. Only the best point of a grid saw the test samples."
        )
        yield Section("Sweep", text, tuple(planes), tuple(others))


def _is_plane(values: Sequence[dict[str, str]]) -> bool:
    """Whether points differ in one thing, or in two in all combinations."""
    sizes = [len({value[name] for value in values}) for name in values[0]]
    return 0 < len(sizes) <= 2 and math.prod(sizes) == len(values)


def _points(name: str, choice: ChoiceRecord) -> Table:
    """The best points of a grid that is no plane."""
    places = sorted(range(len(choice.labels)), key=lambda place: -choice.held_out[place])[:MOST_POINTS]
    best = f", the best {len(places)}" if len(places) < len(choice.labels) else ""
    rows = tuple((choice.labels[place], percent(choice.held_out[place], 2)) for place in places)
    tie = choice.tie and f"; the best is{choice.tie.removeprefix(',')}"
    caption = f"{name}: {len(choice.labels)} points of its grid{best}{tie}"
    return Table(caption, ("point", "held out"), rows, best=choice.labels[choice.best])


def _curves(facts: ReportFacts) -> Section:
    best = facts.best(MOST_STUDENTS)
    shown = [student for student in best if any(model.histories for model in student.both)]
    pictures = tuple(
        picture
        for number, student in enumerate(shown)
        for picture in (
            figures.learning_curve(student, facts.each_teacher, f"accuracy-{number}"),
            figures.loss_curve(student, facts.each_teacher, f"loss-{number}"),
        )
    )
    text = (
        "One line a seed. Losses of different kinds, as the student's and its control's, cannot be compared: look at "
        "their course. Where samples are held out of the training data, full lines are of these, faint ones of the "
        "training data."
    )
    return Section("Learning curves", text, pictures, notes=(*_fewer(facts), *_notes(facts.misses("history"))))


def _confusion(facts: ReportFacts) -> Section:
    title = "Where they are wrong"
    text = "Share in percent of a class's test samples (row) that are given a class (column), over all seeds."
    notes = (*_fewer(facts), *_notes(facts.misses("predictions")), *_notes(facts.misses("test samples")))
    if facts.targets is None:
        return Section(title, text, notes=notes)
    best, names = [each for each in facts.best(MOST_STUDENTS) if each.graded.predictions], facts.dataset.class_names
    models = [model for model in (facts.teacher, *(student.graded for student in best)) if model and model.predictions]
    pictures = [
        *(figures.confusion(model, facts.targets, names, f"confusion-{n}") for n, model in enumerate(models)),
        *(
            figures.accuracy_by_class(student, facts.teacher, facts.targets, names, f"classes-{n}")
            for n, student in enumerate(best)
        ),
    ]
    return Section(title, text, tuple(pictures), notes=notes)


def _calibration(facts: ReportFacts) -> Section:
    title = "Calibration"
    text = (
        f"How often a model is right, by how sure it is, in {BINS} bins of confidence over all seeds; on the dotted "
        f"line it is right as often as it is sure. Bins of fewer than {figures.FEWEST} samples are left out. Off by: "
        "expected calibration error in points (Guo et al. 2017)."
    )
    targets = facts.targets
    shown = [each for each in facts.best(MOST_STUDENTS) if each.graded.predictions] if targets is not None else []
    pictures = tuple(
        figures.reliability(student, facts.teacher, targets, f"calibration-{number}")
        for number, student in enumerate(shown)
        if targets is not None
    )
    return Section(title, text, pictures, notes=(*_fewer(facts), *_notes(facts.misses("predictions"))))


def _disagreement(facts: ReportFacts) -> Section:
    title, teacher, student = "Where teacher and student disagree", facts.teacher, facts.best(1)[0].graded
    if teacher is None:
        return Section(title, "There are only labels of the teacher: it has not seen the test samples.")
    notes = (*_notes(facts.misses("predictions")), *_notes(facts.misses("test samples")))
    if facts.targets is None or not (teacher.predictions and student.predictions):
        return Section(title, "Their predictions are not there.", notes=notes)
    of_teacher, of_student = teacher.predictions[0], student.predictions[0]
    rows = of_teacher.unlike(of_student)
    counts = [int(each.hits(facts.targets)[rows].sum()) for each in (of_teacher, of_student)]
    text = (
        f"{student.name} and its teacher disagree on {len(rows):,} of {len(facts.targets):,} test samples: the teacher "
        f"is right on {counts[0]:,} of them, the student on {counts[1]:,}, neither on {len(rows) - sum(counts):,}."
    )
    if not are_images(facts.dataset):
        text += " The samples are not shown: they are no images of one or three channels."
        return Section(title, text, notes=notes)
    samples = tuple(_samples(facts, of_teacher, of_student))
    if len(samples) < len(rows):
        text += f" Shown are the {len(samples)} on which the two are surest."
    return Section(title, text, samples=samples, notes=notes)


def _samples(facts: ReportFacts, teacher: Predictions, student: Predictions) -> Iterator[Sample]:
    rows, names = teacher.unlike(student)[:MOST_IMAGES], [plain(name) for name in facts.dataset.class_names]
    if facts.inputs is None or facts.targets is None or not len(rows):
        return
    for row, uri in zip(rows, data_uris(np.asarray(facts.inputs[rows])), strict=True):
        label = int(facts.targets[row])
        right = (
            "teacher" if teacher.classes[row] == label else "student" if student.classes[row] == label else "neither"
        )
        said = [f"{names[int(each.classes[row])]} ({percent(each.confidences[row], 0)})" for each in (teacher, student)]
        yield Sample(uri, names[label], said[0], said[1], right)


def _time(facts: ReportFacts) -> Section:
    records = [each.record for each in facts.lineage if each.record]
    found = sum(record.outcome == "found" for record in records)
    text = (
        f"{sum(record.seconds for record in records):.1f} s of work in {len(records)} stages, of which {found} were "
        "found in the store. Models that are trained together have equal shares of the time."
    )
    columns = ("stage", "worker", "result", "seconds", "ended after, s")
    submitted = facts.status.submitted
    rows = tuple(
        (each.title, each.worker, each.outcome, f"{each.seconds:.2f}", _after(each, submitted)) for each in records
    )
    dated = [record for record in records if record.ended]
    pictures = (figures.time_by_worker(dated, submitted),) if dated else ()
    undated = len(records) - len(dated)
    notes = (f"Of {undated} stages it is not known when they ended: an older worker did them.",) if undated else ()
    table = Table("Stages by the pipeline's order", columns, rows, texts=3)
    return Section("Where the time went", text, pictures, (table,), notes=notes, folded=True)


def _after(record: StageRecord, submitted: float) -> str:
    return f"{record.ended - submitted:.2f}" if record.ended else ""


def _lineage(facts: ReportFacts) -> Section:
    text = (
        "A key is the SHA-256 of all that a result depends on: what is done, the spec's part, the version of the code "
        "that does it, and the inputs' keys. Who has the same keys has the same results."
    )
    columns = ("stage", "key", "seed", "made on", "device", "made", "with")
    with_what = list(dict.fromkeys(_versions(each) for each in facts.lineage if _versions(each)))
    rows = tuple(_ancestry(each, with_what) for each in facts.lineage)
    versions = tuple((f"{place + 1}", version) for place, version in enumerate(with_what))
    tables = (
        Table("Artifacts", columns, rows, texts=len(columns)),
        Table("Versions", ("with", "versions"), versions, texts=2),
    )
    notes = _notes(facts.misses("manifest"))
    return Section("Lineage", text, tables=tables, notes=notes, folded=True)


def _versions(each: Lineage) -> str:
    versions = each.manifest.provenance.versions if each.manifest else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _ancestry(each: Lineage, with_what: Sequence[str]) -> tuple[str, ...]:
    recipe, manifest = each.stage.recipe, each.manifest
    seed = str(recipe.training.seed) if isinstance(recipe, Training) else ""
    if manifest is None:
        return (each.stage.title, each.stage.key, seed, "not in the store any more", "", "", "")
    made = f"{datetime.fromtimestamp(manifest.created, UTC):%Y-%m-%d %H:%M} UTC"
    versions = _versions(each)
    provenance = manifest.provenance
    number = str(with_what.index(versions) + 1) if versions else ""
    return (each.stage.title, each.stage.key, seed, provenance.host, provenance.device, made, number)


def _again(facts: ReportFacts) -> Section:
    title, plan = "How to make it again", facts.status.plan
    text = (
        "The first command does the pipeline again as it was planned, for as long as the broker remembers it; what is "
        "in the store is found."
    )
    retry = f"distill retry {facts.status.id}"
    try:
        planned = PlannedSpec.of(plan)
    except InvalidSpec:
        missing = "Not shown: the spec (an earlier version made the plan, and this one would refuse it)."
        return Section(title, text, commands=(retry,), notes=(missing,))
    file = f"{plan.name}.yaml"
    text += (
        f" The others do it from the spec below, copied into {file}: with the same version of distill-queue "
        "'distill plan' shows the keys above, and a training gives the same bytes on the same kind of device with the "
        "same number of threads and version of torch."
    )
    own = f"DISTILL_PLUGINS={','.join(planned.packages)} " if planned.packages else ""
    notes = tuple(
        f"{name} is no part of this page: copy it from {place_of(ref)} in the store"
        + (", with the suffix that it has there." if ref.kind == "label_file" else ".")
        for name, ref in planned.files.items()
    )
    commands = (retry, f"distill plan {file}", f"{own}distill run {file}")
    return Section(title, text, commands=commands, listing=Listing(file, planned.text), notes=notes)


def _fewer(facts: ReportFacts) -> tuple[str, ...]:
    students = len(facts.students)
    return (f"Shown are the best {MOST_STUDENTS} of {students} students.",) if students > MOST_STUDENTS else ()


def _notes(missing: Sequence[Missing]) -> tuple[str, ...]:
    """What is missing, by its reason."""
    titles: dict[str, list[str]] = {}
    for each in missing:
        titles.setdefault(each.reason, []).append(each.title)
    return tuple(f"Not shown: {_some(names)} ({reason})." for reason, names in titles.items())


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
