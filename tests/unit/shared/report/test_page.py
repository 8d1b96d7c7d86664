"""The page: whole, safe and written at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distill_queue.shared.errors import PipelineFailed, StoreUnavailable, UnknownPipeline
from distill_queue.shared.ledger.status import PipelineStatus, StageState
from distill_queue.shared.report import contents
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.page import render, write_page
from distill_queue.shared.results.records import DatasetRecord, DataWarning
from distill_queue.shared.store.folder_store import FolderStore
from tests.unit.shared.report.conftest import HOSTILE, changed, page_of


def test_a_page_has_every_section_and_asks_for_nothing(status: PipelineStatus, page: str) -> None:
    assert re.findall(r'<h2 id="section-\d+">(.*?)</h2>', page) == [
        "Scores and costs",
        "Accuracy against cost",
        "Learning curves",
        "Where they are wrong",
        "Calibration",
        "Where teacher and student disagree",
        "Where the time went",
        "Lineage",
        "How to make it again",
    ]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.findall(r"<script|url\((?!#)|@import|https?://", page)
    assert "Not shown" not in page
    assert all(stage.key in page for stage in status.plan.stages)
    assert "Data set digits: 1,438 training samples; 359 test samples; 10 classes" in page
    assert "<summary>tiny.yaml</summary>" in page
    assert '<span class="about">mlp 8 · T=4 alpha=0.9 · 2 epochs</span>' in page
    assert page.count('<figure class="row">') == 1


def test_a_page_is_the_same_every_time_and_its_ids_are_its_own(facts: ReportFacts, page: str) -> None:
    again = render(facts).replace("\u00a0", " ")
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert again == page
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_names_are_shown_as_text_whatever_they_are(
    status: PipelineStatus, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {"cost", "curves", "calibration"}  # They name no class and no worker, and their figures take long.
    monkeypatch.setattr(contents, "CONTENTS", tuple(name for name in contents.CONTENTS if name not in without))
    dataset = status.states[status.plan.trunk[0].key].record
    assert dataset is not None
    names = (*HOSTILE, *"fghij")
    hostile = changed(status, 0, record=dataset.record.model_copy(update={"class_names": names}), worker=HOSTILE[0])

    page = page_of(hostile, store)

    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\x00" not in page
    assert "&lt;script&gt;" in page
    assert "$\\frac{" in page


def test_what_stages_warn_of_stands_at_the_beginning_and_what_is_accepted_is_dimmed(
    status: PipelineStatus, store: FolderStore, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CONTENTS", ("lineage", "reproduction"))  # Figures take a second.
    record = status.states[status.plan.stages[0].key].record
    assert record is not None
    assert isinstance(record.record, DatasetRecord)
    warnings = (
        DataWarning(kind="unused_classes", text=f"class {HOSTILE[0]} has no sample"),
        DataWarning(kind="channels_last", text="odd"),
    )
    odd = changed(status, 0, record=record.record.model_copy(update={"warnings": warnings}))
    accepting = odd.model_copy(update={"plan": odd.plan.model_copy(update={"accept": ("channels_last",)})})

    warned = page_of(accepting, store)

    assert '<ul class="warnings"' not in page
    assert '<ul class="warnings"' in warned
    assert "<script" not in warned
    assert "has no sample (unused_classes)</li>" in warned
    assert '<li class="faint"><strong>Accepted:</strong> prepare digits: odd (channels_last)</li>' in warned
    assert warned.count("<strong>Warning:</strong>") == 1
    assert warned.index("Accepted:") < warned.index('<ul class="summary">')
    assert "accept: [channels_last]" in warned, "in the spec to copy"


def test_a_page_needs_no_artifact_at_all(status: PipelineStatus, tmp_path: Path) -> None:
    page = page_of(status, FolderStore(tmp_path / "empty"))

    assert "small: " in page
    assert "The predictions of teacher or student are missing." in page
    assert "Not shown: evaluate teacher, evaluate small, evaluate small/control (not in the store any more)." in page
    assert page.count(">not in the store any more</td>") == len(status.plan.stages)
    assert not (tmp_path / "empty").exists()


def test_an_unfinished_pipeline_has_no_page(status: PipelineStatus, store: FolderStore, tmp_path: Path) -> None:
    key = status.plan.report.key
    running = status.model_copy(update={"states": status.states | {key: StageState()}})

    with pytest.raises(PipelineFailed, match="it has no results"):
        write_page(running, store, tmp_path / "page.html")

    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing(status: PipelineStatus, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "empty")
    (tmp_path / "folder" / "page.html").mkdir(parents=True)

    with pytest.raises(StoreUnavailable, match=r"page\.html"):
        write_page(status, store, tmp_path / "folder" / "page.html")

    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["page.html"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "/etc/passwd"])
def test_a_page_lies_in_its_folder_whatever_a_pipeline_is_called(store: FolderStore, name: str) -> None:
    with pytest.raises(UnknownPipeline):
        store.report(name)
