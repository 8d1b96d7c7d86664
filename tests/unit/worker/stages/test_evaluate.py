"""Evaluations: what a model costs is counted as its family needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner


class NoLayer(nn.Module):
    """A linear model that has no linear layer."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(64, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1) @ self.matrix


def test_an_evaluation_that_an_earlier_version_planned_counts_what_an_own_model_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_spec: Callable[..., PipelineSpec]
) -> None:
    mine = ModuleType("mine")
    mine.net = NoLayer  # type: ignore[attr-defined]
    NoLayer.__module__ = "mine"
    monkeypatch.setitem(sys.modules, "mine", mine)
    plan = Plan.of(make_spec(teacher={"model": {"name": "mine:net"}, "training": {"epochs": 1}}))
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu"), plugins=("mine",)), lambda *_: None)
    data, teacher = plan.trunk[:2]
    # Its message said nothing of how to count, as all did.
    planned = Stage.of("evaluate teacher", Evaluate(), model=teacher.ref, dataset=data.ref)

    for stage in (data, teacher):
        runner.run(stage)
    record = runner.run(planned).record

    assert '"counting"' not in planned.model_dump_json()
    assert isinstance(record, EvaluationRecord)
    assert record.multiply_adds == 64 * 10


def test_a_teachers_own_evaluation_runs_it_over_the_test_set_once(
    tmp_path: Path, make_spec: Callable[..., PipelineSpec]
) -> None:
    samples: list[object] = []
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu")), lambda *said: samples.extend(said[1:2]))
    stages = {stage.title: stage for stage in Plan.of(make_spec()).stages}
    for title in ("prepare digits", "train teacher"):
        runner.run(stages[title])
    samples.clear()

    record = runner.run(stages["evaluate teacher"]).record

    assert samples == [359]
    assert isinstance(record, EvaluationRecord)
    assert record.agreement == 1.0
