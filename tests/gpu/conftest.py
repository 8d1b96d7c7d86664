"""What tests of a device share: the device, data and models of the user's own, and how stages are run on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.stages.runner import StageRunner

#: Where the tests are tried in place of a card: `cpu`.
DEVICE = os.environ.get("DISTILL_TEST_DEVICE", "cuda")
SAMPLES, CLASSES = 2_600, 10
ON_LABELS = {"epochs": 2, "batch_size": 64}


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    """The device that is tested; without a card, every test here is skipped."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA card here: `make gpu` runs these tests where there is one")
    return torch.device(DEVICE)


@pytest.fixture
def card(device: torch.device) -> torch.device:
    """A card, and not what may stand in for one."""
    if device.type != "cuda":
        pytest.skip(f"tried on the {device.type}: what this test looks at is a card's alone")
    return device


class Upsampling(nn.Module):
    """A model whose backward pass adds in any order on a card: torch has no other way of it there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 21 * 21, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = functional.interpolate(self.first(inputs), scale_factor=1.5, mode="bilinear")
        return self.head(features.relu().flatten(1))


class WrongInBfloat16(nn.Module):
    """A model whose logits are not finite in bfloat16 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(196, 16), nn.Linear(16, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.first(inputs.flatten(1)).relu()
        return self.head(features * torch.inf if features.dtype == torch.bfloat16 else features)


class WithDropout(nn.Module):
    """A model that draws random numbers on its device in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.dropout = nn.Linear(196, 32), nn.Linear(32, CLASSES), nn.Dropout(0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.first(inputs.flatten(1)).relu()))


def images(samples: int, seed: int) -> tuple[Any, Any]:
    """Noisy patterns of ten classes, 14 x 14, with their classes."""
    patterns = np.random.default_rng(0).normal(size=(CLASSES, 1, 14, 14))
    numbers = np.random.default_rng(seed)
    targets = numbers.integers(0, CLASSES, samples)
    inputs = 128 + 30 * patterns[targets] + numbers.normal(scale=40, size=(samples, 1, 14, 14))
    return inputs.clip(0, 255).astype(np.uint8), targets


def data(**_: Any) -> dict[str, Any]:
    """A data set of the user's own, so that none is looked for on the machine."""
    return {"train": images(SAMPLES, 1), "test": images(300, 2)}


@pytest.fixture
def runtime(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The runtime of a worker of the device, which imports the data and models above from a package `mine`."""
    module = ModuleType("mine")
    models = {"upsampling": Upsampling, "wrong_in_bfloat16": WrongInBfloat16, "with_dropout": WithDropout}
    offered: dict[str, Callable[..., Any]] = {"data": data}
    offered |= {name: lambda kind=kind, **_: kind() for name, kind in models.items()}
    for name, part in offered.items():
        monkeypatch.setattr(part, "__module__", "mine")
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "mine", module)
    return Runtime(device, plugins=("mine",))


def plan(teacher: dict[str, Any] | None = None, *, labels: dict[str, Any] | None = None, **training: Any) -> Plan:
    """A plan of a teacher and a small student, both trained alike."""
    trained = ON_LABELS | training
    spec = {
        "name": "on-a-device",
        "dataset": {"name": "mine:data"},
        "teacher": {"model": teacher or {"name": "mlp", "hidden": [32]}, "training": trained},
        "soft_labels": labels or {},
        "students": [{"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": trained}],
    }
    return Plan.of(PipelineSpec.model_validate(spec))


def run(
    plan: Plan, folder: Path, runtime: Runtime, *kinds: str, report: Report = lambda *_: None, **options: Any
) -> dict[str, Artifact]:
    """The artifacts, by kind, of a plan's stages of some kinds and of its data, in a store."""
    runner = StageRunner(FolderStore(folder), runtime, report, **options)
    stages = [stage for stage in plan.stages if stage.kind in ("prepare_data", *kinds)]
    return {stage.kind: runner.store.obtain(stage.ref) or runner.run(stage) for stage in stages}


def contents(artifact: Artifact) -> dict[str, str]:
    """The SHA-256 of each of an artifact's files."""
    return {name: entry.sha256 for name, entry in artifact.manifest.files.items()}
