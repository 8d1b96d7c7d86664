"""Which worker worked on what and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from distill_queue.shared.report.drawing import add_legend, height_of_rows, name_rows
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.results.records import StageRecord

#: Which colour stands for what kind of stage.
STAGE_COLOURS = {
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
#: What a colour stands for, in the legend's words and order.
COLOUR_WORDS = {
    "teacher": "teacher",
    "labels": "soft labels",
    "student": "students",
    "control": "controls",
    "evaluation": "choice, evaluation",
    "other": "data, report",
}


def section(facts: ReportFacts) -> Section:
    """The stages over workers and time, and a table of them."""
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
    pictures = (time_by_worker(dated, submitted),) if dated else ()
    undated = len(records) - len(dated)
    notes = (f"Of {undated} stages it is not known when they ended: an older worker did them.",) if undated else ()
    table = Table("Stages by the pipeline's order", columns, rows, texts=3)
    return Section("Where the time went", text, pictures, (table,), notes=notes, folded=True)


def time_by_worker(records: Sequence[StageRecord], submitted: float) -> Picture:
    """Which worker worked on what and when; those that were found are ticks."""
    workers = list(dict.fromkeys(record.worker for record in records))
    spans = [
        _Span(
            workers.index(record.worker),
            record.ended - record.seconds - submitted,
            record.seconds,
            STAGE_COLOURS.get(record.kind, "other"),
            record.outcome == "found",
        )
        for record in records
    ]

    def draw(axes: Axes) -> None:
        for colour, label in COLOUR_WORDS.items():
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
        name_rows(axes, [plain(worker, 40) for worker in workers])
        axes.set_xlim(min(0.0, *(span.begin for span in spans)))
        axes.set_xlabel("seconds since it was submitted")
        add_legend(axes, columns=len(COLOUR_WORDS) + 1)

    end = max(span.begin + span.seconds for span in spans)
    worked = sum(span.seconds for span in spans)
    says = f"{worked:.1f} s of work on {len(workers)} workers, done {end:.1f} s after it was submitted"
    return Picture.drawn("time", "Stages over workers", says, draw, height=height_of_rows(len(workers)) + 30, wide=True)


@dataclass(frozen=True, slots=True)
class _Span:
    """When a worker worked on something, in seconds since the pipeline was submitted."""

    row: int
    begin: float
    seconds: float
    colour: str
    found: bool


def _after(record: StageRecord, submitted: float) -> str:
    return f"{record.ended - submitted:.2f}" if record.ended else ""
