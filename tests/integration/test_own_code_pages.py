"""The code that the pages on own data and own models show is run as they show it."""

from __future__ import annotations

import re
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
#: Pages with code of the reader's own, and the files that its blocks are.
OWN_CODE = [("own-data.md", ("mine/data.py",)), ("own-model.md", ("mine/models.py", "mine/losses.py"))]


@pytest.mark.parametrize(("page", "files"), OWN_CODE)
def test_own_code_works_as_its_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, files: tuple[str, ...]
) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text()
    for name, block in zip(files, re.findall(r"```python\n(.*?)```", text, re.DOTALL), strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    (tmp_path / "spec.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    runtime = Runtime(torch.device("cpu"), plugins=(Path(files[0]).parts[0],))
    runner = StageRunner(FolderStore(tmp_path / "store"), runtime, lambda *_progress: None)

    *_, report = [runner.run(stage) for stage in Plan.of(PipelineSpec.load(tmp_path / "spec.yaml")).stages]

    assert isinstance(report.record, ReportRecord)
    assert report.record.students[0].accuracy.mean > 0.5
