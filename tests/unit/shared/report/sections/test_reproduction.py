"""How to make a pipeline's results again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import reproduction
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore


def test_the_spec_of_a_report_finds_every_stage(
    facts: ReportFacts, finished: tuple[PipelineStatus, Path], tmp_path: Path
) -> None:
    section = reproduction.section(facts)

    assert section.listing
    assert section.listing.caption == "tiny.yaml"
    (tmp_path / "tiny.yaml").write_text(section.listing.text)
    again = Plan.of(PipelineSpec.load(tmp_path / "tiny.yaml"))
    assert "distill run tiny.yaml" in section.commands
    assert all(stage.ref in FolderStore(finished[1]) for stage in again.stages)


def test_a_plan_that_tells_no_spec_can_still_be_retried(facts: ReportFacts) -> None:
    unnamed = facts.status.model_copy(update={"plan": facts.status.plan.model_copy(update={"name": "<no name>"})})

    section = reproduction.section(replace(facts, status=unnamed))

    assert section.commands == (f"distill retry {unnamed.id}",)
    assert section.notes[0].startswith("Not shown: the spec")
