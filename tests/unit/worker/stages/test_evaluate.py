"""Evaluations: what a model costs is counted as its family needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support
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


def test_classes_are_recorded_where_the_training_asks_for_them(
    tmp_path: Path, make_spec: Callable[..., PipelineSpec]
) -> None:
    training = {"epochs": 1, "keep": "best", "best_by": "macro_f1", "class_weights": {"3": 2.0}}
    teacher = {"model": {"name": "mlp", "hidden": [8]}, "training": training}
    runner = StageRunner(FolderStore(tmp_path), Runtime(torch.device("cpu")), lambda *_: None)
    plan = Plan.of(make_spec(dataset={"name": "digits", "validation": 0.2}, teacher=teacher))
    stages = {stage.title: stage for stage in plan.stages}
    data, _, evaluated = (
        runner.run(stages[title]) for title in ("prepare digits", "train teacher", "evaluate teacher")
    )

    record, targets = evaluated.record, np.load(data.folder / "test_targets.npy")
    given = np.load(evaluated.folder / "predictions.npy")
    assert isinstance(record, EvaluationRecord)
    assert record.classes is not None
    precision, recall, f1, samples = precision_recall_fscore_support(targets, given, zero_division=0.0)
    assert record.classes.samples == tuple(samples)
    np.testing.assert_allclose(record.classes.precision, precision)
    np.testing.assert_allclose(record.classes.recall, recall)
    np.testing.assert_allclose(record.classes.f1, f1)
    assert record.classes.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, given))
    assert record.classes.macro_f1 == pytest.approx(f1_score(targets, given, average="macro"))


@pytest.mark.parametrize(("rare", "recorded"), [(10, True), (20, False)])
def test_classes_are_recorded_where_the_test_set_is_imbalanced(
    tmp_path: Path, make_spec: Callable[..., PipelineSpec], rare: int, recorded: bool
) -> None:
    inputs, targets = np.zeros((100, 1, 2, 2), np.uint8), np.repeat([0, 1], 50)
    tested = slice(0, 50 + rare)
    arrays = {"train_inputs": inputs, "train_targets": targets, "test_inputs": inputs[tested]}
    np.savez(tmp_path / "few.npz", **arrays, test_targets=targets[tested])
    spec = make_spec(dataset={"name": "arrays", "path": str(tmp_path / "few.npz")})
    runner = StageRunner(
        FolderStore(tmp_path / "store"), Runtime(torch.device("cpu"), data=(tmp_path,)), lambda *_: None
    )
    stages = {stage.title: stage for stage in Plan.of(spec).stages}
    titles = [title for title in stages if title.startswith("prepare")]

    *_, record = (runner.run(stages[title]).record for title in (*titles, "train teacher", "evaluate teacher"))

    assert isinstance(record, EvaluationRecord)
    assert (record.classes is not None) == recorded
    assert ("classes" in record.model_dump()) == recorded
