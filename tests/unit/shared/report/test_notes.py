"""Notes of a section about what it does not show."""

from __future__ import annotations

import shutil
from dataclasses import replace

from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import fewer_students, not_shown
from distill_queue.shared.report.sections import curves
from distill_queue.shared.store.folder_store import FolderStore
from tests.unit.shared.report.conftest import without_files


def test_artifacts_of_earlier_versions_lack_some_files(status: PipelineStatus, store: FolderStore) -> None:
    for title in ("train teacher", "distill small", "train small/control"):
        without_files(store, status, title, "history.json")

    section = curves.section(ReportFacts.read(status, store))

    names = ", ".join(stage.title for stage in status.plan.stages if stage.kind.startswith(("train", "distill")))
    assert section.notes == (f"Not shown: {names} (made by a version that kept none).",)
    assert section.pictures == ()


def test_what_is_missing_is_told_by_kind_and_reason_and_in_the_plans_order(
    status: PipelineStatus, store: FolderStore
) -> None:
    gone = ("prepare digits", "train teacher", "evaluate small")
    for stage in status.plan.stages:
        if stage.title in gone:
            shutil.rmtree(store.folder(stage.ref))

    facts = ReportFacts.read(status, store)

    assert not_shown(facts, "history") == ("Not shown: train teacher (not in the store any more).",)
    assert not_shown(facts, "manifest") == (f"Not shown: {', '.join(gone)} (not in the store any more).",)
    assert not_shown(facts, "predictions", "test samples") == (
        "Not shown: evaluate small (not in the store any more).",
        "Not shown: prepare digits (not in the store any more).",
    )


def test_a_damaged_file_is_not_shown_and_left_as_it_is(status: PipelineStatus, store: FolderStore) -> None:
    (stage,) = (stage for stage in status.plan.stages if stage.title == "evaluate teacher")
    path = store.folder(stage.ref) / "predictions.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x77")

    facts = ReportFacts.read(status, store)

    assert not_shown(facts, "predictions") == ("Not shown: evaluate teacher (damaged).",)
    assert path.exists()


def test_of_many_students_a_note_says_how_many_are_shown(facts: ReportFacts) -> None:
    assert fewer_students(facts) == ()
    assert fewer_students(replace(facts, students=facts.students * 5)) == ("Shown are the best 3 of 5 students.",)
