"""The recipes in `examples/recipes`: a row for each file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduce import words
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import Workplace

FOLDER = ROOT / "examples" / "recipes"


def specs() -> list[Path]:
    """All files of the folder."""
    return sorted(FOLDER.glob("*.yaml"))


def measure(spec: Path, workplace: Workplace) -> Iterator[Outcome]:
    """Run a recipe."""
    yield workplace.run(spec)[1]


def table(figures: SectionFigures) -> str:
    """A row for each student of each recipe, for docs/results.md."""
    head = ("recipe", "teacher", "student", "control alone", "gain", "of the gap", "verdict", "minutes", "measured")
    rows = [
        (
            f"[{title(outcome, student.name)}](../{outcome.spec})",
            *words.compared(outcome, student),
            words.share(student.gap_closed),
            student.verdict,
            "" if outcome.minutes is None else f"{outcome.minutes:.1f}",
            outcome.date,
        )
        for outcome in figures.outcomes
        for student in outcome.students
    ]
    return words.table(head, rows)


def short_table(figures: SectionFigures) -> str:
    """The same in fewer columns, for the README."""
    head = ("recipe", "teacher", "student", "control alone", "the teacher brought")
    rows = [
        (
            title(outcome, student.name),
            words.percent(outcome.teacher),
            words.percent(student.accuracy.mean),
            words.percent(student.control_accuracy.mean if student.control_accuracy else None),
            words.gain(student.gain, student.verdict),
        )
        for outcome in figures.outcomes
        for student in outcome.students
    ]
    return words.table(head, rows)


def title(outcome: Outcome, student: str) -> str:
    """What a recipe is called: the first line of its file up to the colon, if it has an arrow, or the file's name."""
    heading = (ROOT / outcome.spec).read_text("utf-8").partition("\n")[0].removeprefix("# ").partition(":")[0]
    name = heading if "→" in heading else outcome.name
    return f"{name}: {student}" if len(outcome.students) > 1 else name


SECTION = Section("recipes", specs, measure, {"recipes": table, "recipes short": short_table})
