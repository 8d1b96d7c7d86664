"""Notes of a section about what it does not show."""

from __future__ import annotations

from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.report.entries import MissingKind
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.results.records import TrainingRecord

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


def not_drawn(facts: ReportFacts) -> tuple[str, ...]:
    """A note for each thing that trainings began with in place of weights that are drawn, with the stages."""
    starts: dict[str, list[str]] = {}
    for each in facts.lineage:
        recipe, record = each.stage.recipe, each.record.record if each.record else None
        if isinstance(recipe, Training) and recipe.start and isinstance(record, TrainingRecord) and record.start:
            why = f"; a new schedule, as {recipe.start.why}" if recipe.start.why else ""
            starts.setdefault(f"{record.start}{why}", []).append(each.stage.title)
    return tuple(f"Not begun with drawn weights: {_some(titles)} ({start})." for start, titles in starts.items())


def _some(titles: list[str]) -> str:
    more = f" and {len(titles) - MOST_TITLES} more" if len(titles) > MOST_TITLES else ""
    return ", ".join(titles[:MOST_TITLES]) + more
