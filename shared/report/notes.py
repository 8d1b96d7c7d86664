"""Notes of a section about what it does not show."""

from __future__ import annotations

from distill_queue.shared.report.entries import MissingKind
from distill_queue.shared.report.facts import ReportFacts

#: The most students whose curves, confusions and calibration are shown: the best ones.
MOST_STUDENTS = 3
#: The most stages that a note names.
MOST_TITLES = 5


def fewer_students(facts: ReportFacts) -> tuple[str, ...]:
    """A note where only the best students are shown."""
    students = len(facts.students)
    return (f"Shown are the best {MOST_STUDENTS} of {students} students.",) if students > MOST_STUDENTS else ()


def not_shown(facts: ReportFacts, *kinds: MissingKind) -> tuple[str, ...]:
    """A note for each kind of thing that is missing and each reason, with the stages in the plan's order."""
    places = {each.stage.title: place for place, each in enumerate(facts.lineage)}
    missing = sorted(set(facts.missing), key=lambda each: places[each.title])
    notes = []
    for kind in kinds:
        titles: dict[str, list[str]] = {}
        for each in missing:
            if each.kind == kind:
                titles.setdefault(each.reason, []).append(each.title)
        notes += [f"Not shown: {_some(names)} ({reason})." for reason, names in titles.items()]
    return tuple(notes)


def _some(titles: list[str]) -> str:
    more = f" and {len(titles) - MOST_TITLES} more" if len(titles) > MOST_TITLES else ""
    return ", ".join(titles[:MOST_TITLES]) + more
