"""Data on disk while they are prepared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.sources.image_folder import ImageFolderSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner


def test_files_that_change_while_they_are_read_leave_no_artifact(tmp_path: Path) -> None:
    for number in range(6):
        (file := tmp_path / "photos" / "ab"[number % 2] / f"{number}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(file)
    stage = Stage.of("prepare", PrepareData(dataset=ImageFolderSpec(path="photos", size=(4, 4))))
    store = FolderStore(tmp_path / "store")
    runtime = Runtime(torch.device("cpu"), data=(tmp_path,), digests=tmp_path / "digests")

    def replaced(progress: str, *_: object) -> None:
        if "images" in progress:
            Image.new("RGB", (4, 4), "white").save(file)

    with pytest.raises(StageFailed, match="photos changed while it was read: submit the pipeline again"):
        StageRunner(store, runtime, replaced).run(stage)
    assert stage.ref not in store

    assert StageRunner(store, runtime, lambda *_: None).run(stage).record
