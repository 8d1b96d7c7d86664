"""Trials that were not kept: gains as they were measured when recipes were sought. Nothing is run for them."""

from __future__ import annotations

from benchmarks.reproduce import words
from benchmarks.reproduce.figures import SectionFigures
from benchmarks.reproduce.section import Section, Table

NOT_RUN = "not run"


def table_of(about: str, *students: str) -> Table:
    """Makes the table of the trials about something, with a column for each student."""

    def table(figures: SectionFigures) -> str:
        rows = []
        for outcome in figures.outcomes:
            if outcome.name.startswith(f"{about}: "):
                gains = {student.name: words.gain(student.gain, student.verdict) for student in outcome.students}
                name = outcome.name.removeprefix(f"{about}: ")
                rows.append((name, *(gains.get(student, NOT_RUN) for student in students)))
        return words.table(("what", *students), rows)

    return table


SECTION = Section(
    "trials",
    list,
    lambda *_: iter(()),
    {
        "trials fashion": table_of("fashion", "MLP 512-256", "MLP 128"),
        "trials mnist": table_of("mnist", "gain on held-out samples"),
        "trials photos": table_of("photos", "gain"),
        "trials snippets": table_of("snippets", "T = 1, alpha 1", "T = 2, alpha 1", "T = 2, alpha 0.5"),
        "trials mnist schedules": table_of("mnist schedules", "gain on held-out samples"),
        "trials mnist ten": table_of("mnist ten", "gain on held-out samples"),
    },
)
