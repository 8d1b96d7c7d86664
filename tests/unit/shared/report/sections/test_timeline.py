"""Where the time went."""

from __future__ import annotations

import json
from pathlib import Path

from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import timeline
from distill_queue.shared.store.folder_store import FolderStore


def test_the_timeline_has_a_row_of_its_own(facts: ReportFacts) -> None:
    (picture,) = timeline.section(facts).pictures

    assert picture.wide


def test_records_of_earlier_versions_have_no_times(
    status: PipelineStatus, finished: tuple[PipelineStatus, Path]
) -> None:
    told = json.loads(status.model_dump_json())
    for state in told["states"].values():
        del state["record"]["ended"]
    older = PipelineStatus.model_validate_json(json.dumps(told))

    section = timeline.section(ReportFacts.read(older, FolderStore(finished[1])))

    stages = len(status.plan.stages)
    assert section.notes == (f"When {stages} stages ended is not known: an older worker did them.",)
    assert section.pictures == ()
