"""The stages as plain functions, with no Celery and no server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import StageFailed
from shared.plan import Plan
from shared.records import EvaluationRecord, SoftLabelsRecord, TrainingRecord
from shared.soft_labels import SoftLabels
from shared.spec import PipelineSpec
from shared.store import Artifact, ArtifactStore
from worker import data
from worker.evaluation import logits_of
from worker.runtime import Runtime
from worker.stages import Desk, Workshop

MakeSpec = Callable[..., PipelineSpec]
CPU = Runtime(torch.device("cpu"))


def say_nothing(_progress: str) -> None: ...


def run_all(spec: PipelineSpec, folder: Path) -> dict[str, Artifact]:
    store = ArtifactStore(folder)
    return {stage.title: Workshop(store, CPU, say_nothing).run(stage) for stage in Plan.of(spec).stages}


def test_a_pipeline_is_a_plan_run_in_order(make_spec: MakeSpec, tmp_path: Path) -> None:
    artifacts = run_all(make_spec(), tmp_path)

    teacher, labels, evaluated = (
        artifacts[title].record for title in ("train teacher", "soft labels", "evaluate small")
    )
    assert isinstance(teacher, TrainingRecord)
    assert teacher.steps == 2 * 6
    assert isinstance(labels, SoftLabelsRecord)
    assert labels.samples == 1438
    assert isinstance(evaluated, EvaluationRecord)
    assert evaluated.samples == 359
    assert evaluated.parameters == 64 * 8 + 8 + 8 * 10 + 10
    assert evaluated.multiply_adds == 64 * 8 + 8 * 10
    assert 0 < evaluated.latency_median_ms <= evaluated.latency_p95_ms


def test_the_same_spec_gives_the_same_bytes(make_spec: MakeSpec, tmp_path: Path) -> None:
    first, second = (run_all(make_spec(), tmp_path / name) for name in ("first", "second"))

    for title in ("prepare digits", "train teacher", "soft labels", "distill small", "train small/control"):
        assert first[title].manifest.files == second[title].manifest.files, title


def test_row_i_of_the_soft_labels_is_the_teachers_answer_to_sample_i(make_spec: MakeSpec, tmp_path: Path) -> None:
    artifacts = run_all(make_spec(soft_labels={"dtype": "float32"}), tmp_path)
    store = ArtifactStore(tmp_path)
    stage = artifacts["evaluate teacher"].manifest.stage
    assert stage is not None
    inputs = {role: store.open(ref) for role, ref in stage.inputs.items()}
    desk = Desk(inputs, tmp_path, CPU, say_nothing)

    logits = logits_of(desk.model("model"), desk.split("train"), say_nothing)

    labels = SoftLabels.open(artifacts["soft labels"].folder)
    np.testing.assert_allclose(labels.batch(np.arange(1438)), logits.numpy(), rtol=1e-4, atol=1e-4)


def test_a_loss_that_explodes_stops_the_stage(make_spec: MakeSpec, tmp_path: Path) -> None:
    training = {"optimizer": "sgd", "learning_rate": 1e3, "epochs": 20, "schedule": "constant"}
    spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32, 32]}, "training": training})

    with pytest.raises(StageFailed, match="try a smaller learning_rate"):
        run_all(spec, tmp_path)


def test_given_weights_teach_as_they_are(make_spec: MakeSpec, tmp_path: Path) -> None:
    trained = run_all(make_spec(), tmp_path / "first")["train teacher"].path("model.safetensors")
    spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "checkpoint": str(trained)})
    plan, store = Plan.of(spec), ArtifactStore(tmp_path / "second")
    ref = plan.trunk[1].inputs["checkpoint"]
    with store.draft(ref) as draft:
        (draft / "model.safetensors").write_bytes(trained.read_bytes())
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)

    given = {stage.title: Workshop(store, CPU, say_nothing).run(stage) for stage in plan.stages}

    assert given["load teacher"].path("model.safetensors").read_bytes() == trained.read_bytes()
    assert given["report"].record.summary.startswith("teacher ")


def test_the_5000_digits_are_split_the_same_way_in_every_class() -> None:
    from shared.spec import DatasetSpec

    arrays = data.load(DatasetSpec(name="mnist_5k"), CPU)

    assert np.bincount(arrays.train_targets).tolist() == [400] * 10
    assert np.bincount(arrays.test_targets).tolist() == [100] * 10
    rows = {row.tobytes() for row in arrays.train_inputs}
    assert sum(row.tobytes() in rows for row in arrays.test_inputs) == 0
