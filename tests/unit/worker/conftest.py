"""What tests of the user's own code share: a package that is right, and the run of a pipeline of its parts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

CPU = Runtime(torch.device("cpu"), plugins=("mine",))

RANDOM = np.random.default_rng(0)

INPUTS = RANDOM.normal(size=(40, 1, 4, 4)).astype(np.float32)

TOKENS = RANDOM.integers(0, 9, (40, 6)).astype(np.int16)

TARGETS = np.arange(40) % 3


def data(**changes: Any) -> dict[str, Any]:
    return {"train": (INPUTS, TARGETS), "test": (INPUTS[:9], TARGETS[:9])} | changes


def mean_square(student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, *, temperature: Any) -> Any:
    assert targets.dtype == torch.int64
    return temperature * (student - teacher).square().mean()


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the user's own that is right."""
    module = ModuleType("mine")
    module.data = data  # type: ignore[attr-defined]
    module.model = lambda input_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(16, classes))  # type: ignore[attr-defined]
    module.loss = mean_square  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def take_as_its_own(module: ModuleType) -> None:
    """Have the module's parts look as if they were written in it."""
    for part in filter(callable, vars(module).values()):
        getattr(part, "func", part).__module__ = module.__name__


def run(folder: Path, until: str = "report", runtime: Runtime = CPU, **changes: Any) -> None:
    """Do all stages of a pipeline of the user's own parts, one after the other."""
    take_as_its_own(sys.modules["mine"])
    training = {"epochs": 1, "batch_size": 16}
    own = {"name": "mine:model"}
    spec = PipelineSpec.model_validate(
        {
            "name": "own",
            "dataset": {"name": "mine:data"},
            "teacher": {"model": own, "training": training},
            "students": [{"name": "s", "model": own, "training": training, "distillation": {"loss": "mine:loss"}}],
        }
        | changes
    )
    runner = StageRunner(FolderStore(folder), runtime, lambda *_: None)
    for stage in Plan.of(spec).stages:
        runner.run(stage)
        if stage.kind == until:
            return
