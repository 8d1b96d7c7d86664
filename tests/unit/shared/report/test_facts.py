"""The facts of a report, read from a ledger and a store."""

from __future__ import annotations

from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.store.folder_store import FolderStore


def test_a_student_and_its_control_have_one_latency(status: PipelineStatus, store: FolderStore) -> None:
    facts = ReportFacts.read(status, store)
    (small,) = facts.students
    assert small.control

    measured = {each.evaluations[0].latency_median_ms for each in small.both}

    assert small.model.latency_ms == small.control.latency_ms == min(measured)
