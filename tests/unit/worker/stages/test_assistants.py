"""Assistants: the soft labels of students that teach other students, and what the report says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import ChoiceRecord, EnsembleRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import models
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.context import weights_of
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
CPU = torch.device("cpu")


def student(name: str, hidden: Any, **others: Any) -> dict[str, Any]:
    training = {"epochs": 1, "learning_rate": 0.01}
    return {"name": name, "model": {"name": "mlp", "hidden": hidden}, "training": training} | others


def run_all(plan: Plan, store: FolderStore) -> dict[str, Artifact]:
    runner = StageRunner(store, Runtime(CPU), lambda *_: None)
    return {stage.title: runner.run(stage) for stage in plan.stages}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A chain through an assistant whose width is chosen from a grid, with two seeds."""
    spec = {
        "name": "chain",
        "dataset": {"name": "digits", "validation": 0.2},
        "teacher": {"model": {"name": "mlp", "hidden": [16]}, "training": {"epochs": 1}},
        "soft_labels": {"dtype": "float32"},
        "average": "logits",
        "students": [
            student("medium", {"grid": [[4], [16]]}, seeds=2),
            student("small", [4], teacher="medium"),
        ],
    }
    return run_all(Plan.of(PipelineSpec.of(spec)), FolderStore(tmp_path_factory.mktemp("store")))


def test_a_chosen_assistant_teaches_the_average_of_its_seeds(chosen: dict[str, Artifact]) -> None:
    data, choice = chosen["prepare digits"], chosen["choose medium"]
    record = choice.record
    assert isinstance(record, ChoiceRecord)
    samples = Split.open(data.folder, "train", data.record, CPU)  # type: ignore[arg-type]

    logits = []
    for seed in (0, 1):
        spec = choice.manifest.stage.recipe.models[record.best]  # type: ignore[union-attr]
        model = models.build(spec, data.record, Runtime(CPU))  # type: ignore[arg-type]
        logits.append(models.load(model, choice.path(weights_of(seed)))(samples.normalised(slice(0, 50))))

    taught = torch.from_numpy(SoftLabels.open(chosen["soft labels of medium"].folder)[:50])
    torch.testing.assert_close(taught, torch.stack(logits).mean(0).detach())
    joined = chosen["join medium"].record
    assert isinstance(joined, EnsembleRecord)
    assert (joined.teachers, joined.best) == (2, record.best)


def test_the_report_says_who_taught_whom(chosen: dict[str, Artifact]) -> None:
    report = chosen["report"].record

    assert isinstance(report, ReportRecord)
    assert {score.name: score.teacher for score in report.students} == {"medium": None, "small": "medium"}
    assert '"teacher": "medium"' in (chosen["report"].folder / "report.json").read_text()


def test_an_assistant_of_one_seed_teaches_as_it_is(make_spec: MakeSpec, tmp_path: Path) -> None:
    students = [student("medium", [16]), student("small", [4], teacher="medium")]
    plan = Plan.of(make_spec(students=students, soft_labels={"dtype": "float32"}, evaluation={"control": False}))

    made = run_all(plan, FolderStore(tmp_path))

    data = made["prepare digits"]
    model = models.build(made["distill medium"].manifest.stage.recipe.model, data.record, Runtime(CPU))  # type: ignore
    models.load(model, made["distill medium"].path("model.safetensors"))
    samples = Split.open(data.folder, "train", data.record, CPU)  # type: ignore[arg-type]
    taught = torch.from_numpy(SoftLabels.open(made["soft labels of medium"].folder)[:50])
    torch.testing.assert_close(taught, model(samples.normalised(slice(0, 50))).detach())
