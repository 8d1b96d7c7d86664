"""Students as files of integers that lose too much, and what training on with rounded weights makes good."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import HandedBack, StageFailed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.exports.gate import Comparison
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.stages.runner import StageRunner

pytest.importorskip("onnxruntime")
TRAINING = {"epochs": 20, "batch_size": 64, "learning_rate": 3e-3, "precision": "float32", "seed": 1}


def say_nothing(*_: object) -> None: ...


class Stretched(nn.Module):
    """An MLP in which some numbers are 100,000 times as large as others: integers have too few steps for the small."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(inputs, 32), nn.Linear(32, 32), nn.Linear(32, classes)
        self.register_buffer("stretch", torch.logspace(0, 5, 32))
        with torch.no_grad():
            self.second.weight /= self.stretch

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(samples.flatten(1)).relu() * self.stretch).relu())


def stretched(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Stretched(math.prod(input_shape), classes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderStore]:
    """A store with a trained student that loses much as integers."""
    module = ModuleType("mine")
    module.model = stretched  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretched, "__module__", "mine")
        patch.setitem(sys.modules, "mine", module)
        kept = FolderStore(tmp_path_factory.mktemp("store"))
        for stage in stages({}):
            if stage.kind in ("prepare_data", "train_teacher", "soft_labels", "distill"):
                runner(kept).run(stage)
        yield kept


def stages(export: dict[str, Any], **student: Any) -> tuple[Stage, ...]:
    values = {
        "name": "p",
        "dataset": {"name": "digits"},
        "teacher": {"model": {"name": "mlp", "hidden": [64]}, "training": TRAINING},
        "students": [
            {
                "name": "s",
                "model": {"name": "mine:model"},
                "training": TRAINING,
                "export": {"formats": ["onnx-int8"]} | export,
            }
            | student
        ],
        "evaluation": {"control": False},
    }
    return Plan.of(PipelineSpec.of(values)).stages


def export_stage(tolerance: float, quantise: str) -> Stage:
    (found,) = (each for each in stages({"tolerance": tolerance, "quantise": quantise}) if each.kind == "export")
    return found


def runner(store: FolderStore, report: Report = say_nothing) -> StageRunner:
    return StageRunner(store, Runtime(torch.device("cpu"), plugins=("mine",)), report)


def record(artifact: Artifact) -> ExportRecord:
    assert isinstance(artifact.record, ExportRecord)
    return artifact.record


def interrupted_in(words: str) -> Callable[..., None]:
    """A report that hands the stage back once it says so."""

    def report(told: str, *_: object) -> None:
        if words in told:
            raise HandedBack(told)

    return report


def test_a_file_that_loses_too_much_is_refused_and_the_message_says_what_helps(store: FolderStore) -> None:
    stage = export_stage(3, "after")

    with pytest.raises(StageFailed, match=r"points or \d+ samples are lost, .* 3; .*: say export.quantise: aware"):
        runner(store).run(stage)

    assert stage.ref not in store


def test_training_on_with_rounded_weights_makes_it_good_and_an_interruption_changes_no_byte(
    store: FolderStore, tmp_path: Path
) -> None:
    stage = export_stage(3, "aware")

    with pytest.raises(HandedBack, match=r"^with rounded weights: epoch 2/2 · step 9/23"):
        runner(store, interrupted_in("epoch 2/2 · step 9/")).run(stage)
    told: list[str] = []
    resumed = runner(store, lambda words, *_: told.append(words)).run(stage)
    store.set_aside(stage.ref)
    store.forget_partial(stage.ref)
    at_once = runner(store).run(stage)

    assert any("epoch 2/2 · step 10/" in words for words in told)
    assert not any("epoch 1/2" in words for words in told)
    assert resumed.manifest.files == at_once.manifest.files
    found = record(at_once)
    assert found.adapted is not None
    assert found.adapted.epochs == 2
    assert found.adapted.learning_rate == pytest.approx(3e-4)
    assert found.adapted.accuracy_before < found.model_accuracy - 0.03 < found.accuracy
    assert "after 2 epochs with rounded weights" in found.summary


def test_a_student_that_loses_little_keeps_its_weights(store: FolderStore) -> None:
    found = record(runner(store).run(export_stage(50, "aware")))

    assert found.adapted is None
    assert found.accuracy < found.model_accuracy


def test_what_still_loses_too_much_is_refused_with_both_accuracies(store: FolderStore) -> None:
    with pytest.raises(StageFailed, match=r"has 9\d\.\d+% .* after 2 epochs with rounded weights \([\d.]+% before\)"):
        runner(store).run(export_stage(0, "aware"))


def test_a_student_whose_batch_norms_were_folded_is_trained_on_as_it_was(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    *before, export, _ = stages({"quantise": "aware"}, model={"name": "cnn", "width": 4, "depth": 2})
    for stage in before:
        if stage.kind == "distill":
            runner(store).run(stage)
    monkeypatch.setattr(Comparison, "is_accurate", lambda *_: False)

    with pytest.raises(StageFailed, match="after 2 epochs with rounded weights"):
        runner(store).run(export)
