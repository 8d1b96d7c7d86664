"""What the client asks the worker's code for, without a broker."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.offline import write_samples
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.worker.conftest import CPU, TARGETS, TOKENS, data, take_as_its_own


def test_samples_of_several_inputs_are_not_written_in_views(mine: ModuleType, tmp_path: Path) -> None:
    inputs = {"ids": TOKENS, "mask": np.ones(TOKENS.shape, bool)}
    mine.data = lambda: data(train=(inputs, TARGETS), test=(inputs, TARGETS))  # type: ignore[attr-defined]
    take_as_its_own(mine)
    stage = Stage.of("prepare", PrepareData(dataset=NamedDatasetSpec(name="mine:data")))
    runner = StageRunner(FolderStore(tmp_path / "store"), CPU, lambda *_: None)
    (folder := tmp_path / "samples").mkdir()

    with pytest.raises(InvalidSpec, match=r"soft_labels\.augmentation: a sample is ids and mask, which have no views"):
        write_samples(stage, AugmentationSpec(mixup=0.2), 2, folder, runner)

    assert write_samples(stage, AugmentationSpec(), 1, folder, runner)["dataset_key"] == stage.key
    assert np.load(folder / "inputs.npy").dtype.names == ("ids", "mask")
