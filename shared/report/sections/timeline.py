"""Which worker worked on what and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from distill_queue.shared.plan.recipes import RECIPES
from distill_queue.shared.report.drawing import add_legend, height_of_rows, name_rows
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section, Table
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.results.stage_record import StageRecord

#: What each colour stands for, in the legend's words and order.
COLOUR_WORDS = {
    "teacher": "teacher",
    "labels": "soft labels",
    "student": "students",
    "control": "controls",
    "evaluation": "choice, evaluation",
    "other": "data, report",
}
#: The mark of a stage whose result was found in the store.
FOUND: dict[str, Any] = {"markersize": 5, "markerfacecolor": "none"}


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
    ends = [f"{each.ended - submitted:.2f}" if each.ended else "" for each in records]
    rows = tuple(
        (each.title, each.worker, each.outcome, f"{each.seconds:.2f}", end)
        for each, end in zip(records, ends, strict=True)
    )
    dated = [record for record in records if record.ended]
    pictures = (time_by_worker(dated, submitted),) if dated else ()
    undated = len(records) - len(dated)
    notes = (f"When {undated} stages ended is not known: an older worker did them.",) if undated else ()
    table = Table("Stages by the pipeline's order", columns, rows, texts=3)
    return Section("Where the time went", text, pictures, (table,), notes=notes, folded=True)


def time_by_worker(records: Sequence[StageRecord], submitted: float) -> Picture:
    """Which worker worked on what and when; a stage that was found is a hollow mark at its end."""
    workers = list(dict.fromkeys(record.worker for record in records))
    begins = [record.ended - record.seconds - submitted for record in records]
    dated = list(zip(records, begins, strict=True))

    def draw(axes: Axes) -> None:
        for colour, label in COLOUR_WORDS.items():
            of_colour = [each for each in dated if _colour(each[0]) == colour]
            for record, begin in of_colour:
                row = workers.index(record.worker)
                if record.outcome == "found":
                    axes.plot(begin + record.seconds, row, "D", color=COLOURS[colour], **FOUND)
                else:
                    axes.barh(row, record.seconds, 0.6, begin, color=COLOURS[colour])
            if of_colour:
                axes.barh(0, 0, color=COLOURS[colour], label=label)
        if any(record.outcome == "found" for record in records):
            axes.plot([], [], "D", color=COLOURS["muted"], label="found", **FOUND)
        name_rows(axes, [plain(worker, 40) for worker in workers])
        axes.set_xlim(min(0.0, *begins))
        axes.set_xlabel("seconds since it was submitted")
        add_legend(axes, columns=len(COLOUR_WORDS) + 1)

    end = max(begin + record.seconds for record, begin in dated)
    worked = sum(record.seconds for record in records)
    says = f"{worked:.1f} s of work on {len(workers)} workers, done {end:.1f} s after it was submitted"
    return Picture.drawn("time", "Stages over workers", says, draw, height=height_of_rows(len(workers)) + 30, wide=True)


def _colour(record: StageRecord) -> str:
    """The colour of a stage; "other" for a kind that only a later version knows."""
    return RECIPES[record.kind].work if record.kind in RECIPES else "other"
