"""Try it: students and their teacher answer in the page to what its reader draws."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import MOST_STUDENTS, not_shown
from distill_queue.shared.report.placement import Placement
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import plain
from distill_queue.shared.report.trial import Trial
from distill_queue.shared.results.page_program import MOST_BYTES, PageProgram, is_small_image

#: The test samples by which drawings are placed, and the most that can be tried: of each class, and bytes of all.
PLACED_BY, MOST_OF_A_CLASS, MOST_SAMPLE_BYTES = 500, 3, 100_000


def section(facts: ReportFacts) -> Section | None:
    """A field to draw on, and the answers; nothing where no student has a program or samples are no small images."""
    best_first = [student.model.name for student in facts.best(len(facts.students))]
    best_first.sort(key=lambda name: -_accuracy(facts, name))
    found = {
        name: facts.programs[name] for name in (*best_first[:1], "teacher", *best_first[1:]) if name in facts.programs
    }
    if not found or not is_small_image(facts.dataset.shape):
        return None
    shown, notes = _that_fit(found)
    notes = (*notes, *not_shown(facts, "program"))
    if not any(name != "teacher" for name in shown):
        return Section("Try it", "No student can be tried in this page.", notes=notes)
    placement, trial = _trial(facts, shown)
    checked = max(program.samples for program in shown.values())
    agreements = ", ".join(f"{name} {percent(each.agreement)}" for name, each in shown.items())
    text = (
        "Draw on the field with mouse, finger or pen, drop an image onto it, or take a test sample. The models answer "
        "in this page, which sends nothing and loads nothing. Here their weights have 8 bits, so that an answer may "
        f"change; the share of the first {checked:,} test samples with the same answer as from the model itself: "
        f"{agreements}."
    )
    keys = "By keyboard: arrow keys move the pen, and draw while Shift is held."
    how = (placement.words,) if placement else ()
    return Section("Try it", text, notes=(*how, keys, *notes), trial=trial)


def _accuracy(facts: ReportFacts, name: str) -> float:
    return next(student.model.accuracy for student in facts.students if student.model.name == name)


def _that_fit(found: dict[str, PageProgram]) -> tuple[dict[str, PageProgram], tuple[str, ...]]:
    """The models whose programs fit into a page together, and notes about the others."""
    shown: dict[str, PageProgram] = {}
    notes, size_bytes = [], 0
    for name, program in found.items():
        own = len(json.dumps(program.operations))
        if program.reason is not None:
            notes.append(f"Not to be tried: {name} ({program.reason}).")
        elif size_bytes + own > MOST_BYTES:
            notes.append(f"Not to be tried: {name} ({own:,} bytes, and a page takes {MOST_BYTES:,} in all).")
        elif len(shown) <= MOST_STUDENTS:
            shown[name] = program
            size_bytes += own
    return shown, tuple(notes)


def _trial(facts: ReportFacts, shown: dict[str, PageProgram]) -> tuple[Placement | None, Trial]:
    """How drawings are placed, and what the page's script needs."""
    inputs = None if facts.inputs is None else np.asarray(facts.inputs[:PLACED_BY])
    white = max(int(inputs.max()), 1) if inputs is not None and inputs.size else 255
    placement = Placement.of(inputs[:, 0], white) if inputs is not None and inputs.shape[1] == 1 else None
    names = [plain(name) for name in facts.dataset.class_names]
    by_role = sorted(shown, key=lambda name: name == "teacher")
    return placement, Trial.of(
        {
            "shape": facts.dataset.shape,
            "white": white,
            "background": placement.background if placement else 0,
            "placement": asdict(placement) if placement else None,
            "classes": names,
            "models": [
                {
                    "name": name,
                    "role": "teacher" if name == "teacher" else "student",
                    "operations": shown[name].operations,
                }
                for name in by_role
            ],
            "samples": list(_samples(facts, names)),
        }
    )


def _samples(facts: ReportFacts, names: list[str]) -> Iterator[dict[str, Any]]:
    """The first test samples of each class."""
    if facts.inputs is None or facts.targets is None:
        return
    most = MOST_SAMPLE_BYTES // int(np.prod(facts.dataset.shape))
    rows = [np.flatnonzero(facts.targets == label)[:MOST_OF_A_CLASS] for label in range(len(names))]
    in_turn = [each[place] for place in range(MOST_OF_A_CLASS) for each in rows if place < len(each)]
    for row in in_turn[:most]:
        pixels = base64.b64encode(np.ascontiguousarray(facts.inputs[row]).tobytes()).decode()
        yield {"label": names[int(facts.targets[row])], "pixels": pixels}
