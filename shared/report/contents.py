"""The contents of a report: its sections in the page's order."""

from __future__ import annotations

from importlib import import_module

from distill_queue.shared.report import sections
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section

#: The files in `sections/`, each with a function `section`.
CONTENTS = (
    "scores",
    "cost",
    "exports",
    "try_it",
    "grids",
    "curves",
    "confusion",
    "calibration",
    "disagreement",
    "timeline",
    "lineage",
    "reproduction",
)


def sections_of(facts: ReportFacts) -> tuple[Section, ...]:
    """The sections of a report that have something to show."""
    found: list[Section | None] = [import_module(f"{sections.__name__}.{name}").section(facts) for name in CONTENTS]
    return tuple(section for section in found if section)
