"""The code that the pages on own data and own models show is run as they show it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]
#: Pages with code of the reader's own, the files that its blocks are, and how many specs it shows.
OWN_CODE = [
    ("own-data.md", ("arrays.py", "mine/data.py"), 2),
    ("own-model.md", ("mine/models.py", "mine/losses.py"), 1),
]


@pytest.mark.parametrize(("page", "files", "specs"), OWN_CODE)
def test_own_code_works_as_its_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, files: tuple[str, ...], specs: int
) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text()
    for name, block in zip(files, re.findall(r"```python\n(.*?)```", text, re.DOTALL), strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    if (script := tmp_path / "arrays.py").exists():
        runpy.run_path(str(script))
    runtime = Runtime(torch.device("cpu"), plugins=("mine",), data=(tmp_path,), digests=tmp_path / "contents")
    runner = StageRunner(FolderStore(tmp_path / "store"), runtime, lambda *_progress: None)

    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:specs]:
        (tmp_path / "spec.yaml").write_text(block)
        *_, report = [runner.run(stage) for stage in Plan.of(PipelineSpec.load(tmp_path / "spec.yaml")).stages]

        assert isinstance(report.record, ReportRecord)
        assert report.record.students[0].accuracy.mean > 0.5
