"""The stages as plain functions, with no Celery and no server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_queue.shared.errors import InvalidInput, StageFailed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import EvaluationRecord, SoftLabelsRecord, TrainingRecord
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.data import load as data
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.evaluation.quality import logits_of
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
CPU = Runtime(torch.device("cpu"))


def say_nothing(*_: object) -> None: ...


def run_all(spec: PipelineSpec, folder: Path) -> dict[str, Artifact]:
    store = FolderStore(folder)
    return {stage.title: StageRunner(store, CPU, say_nothing).run(stage) for stage in Plan.of(spec).stages}


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
    store = FolderStore(tmp_path)
    stage = artifacts["evaluate teacher"].manifest.stage
    assert stage is not None
    inputs = {role: store.open(ref) for role, ref in stage.inputs.items()}
    context = StageContext(inputs, tmp_path, CPU, say_nothing)

    logits = logits_of(context.model("model"), context.split("train"), say_nothing)

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
    plan, store = Plan.of(spec), FolderStore(tmp_path / "second")
    ref = plan.trunk[1].inputs["checkpoint"]
    with store.draft(ref) as draft:
        (draft / "model.safetensors").write_bytes(trained.read_bytes())
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)

    given = {stage.title: StageRunner(store, CPU, say_nothing).run(stage) for stage in plan.stages}

    assert given["load teacher from model.safetensors"].path("model.safetensors").read_bytes() == trained.read_bytes()
    assert given["report"].record.summary.startswith("teacher ")


def test_the_5000_digits_are_split_the_same_way_in_every_class() -> None:
    from distill_queue.shared.spec.sources.named import NamedDatasetSpec

    arrays = data.load(NamedDatasetSpec(name="mnist_5k"), Reading(CPU))

    assert np.bincount(arrays.train_targets).tolist() == [400] * 10
    assert np.bincount(arrays.test_targets).tolist() == [100] * 10
    rows = {row.tobytes() for row in arrays.train_inputs}
    assert sum(row.tobytes() in rows for row in arrays.test_inputs) == 0


def test_whoever_counts_attempts_is_told_of_every_checkpoint(make_spec: MakeSpec, tmp_path: Path) -> None:
    told: list[None] = []
    store, plan = FolderStore(tmp_path), Plan.of(make_spec())
    runner = StageRunner(store, CPU, say_nothing, saved=lambda: told.append(None), checkpoint_seconds=1e-9)

    for stage in plan.trunk[:2]:
        runner.run(stage)

    assert told


def test_the_labels_of_a_view_are_of_the_pixels_that_the_view_shows(make_spec: MakeSpec, tmp_path: Path) -> None:
    soft_labels = {"views": 3, "dtype": "float32", "augmentation": {"shift": 1, "mixup": 0.3, "seed": 5}}
    artifacts = run_all(make_spec(soft_labels=soft_labels), tmp_path)
    store, stage = FolderStore(tmp_path), artifacts["evaluate teacher"].manifest.stage
    assert stage is not None
    context = StageContext({role: store.open(ref) for role, ref in stage.inputs.items()}, tmp_path, CPU, say_nothing)
    spec = make_spec(soft_labels=soft_labels)
    batches = Batches(context.split("train"), spec.soft_labels.augmentation, 3, torch.float32)
    rows = torch.tensor([[5, 1000, 7]])

    with torch.inference_mode():
        expected = torch.stack([context.model("teacher").eval()(batches(rows, view).inputs[0]) for view in range(3)])

    labels = SoftLabels.open(artifacts["soft labels"].folder)
    for view in range(3):
        np.testing.assert_allclose(labels.batch(rows[0].numpy(), view), expected[view].numpy(), rtol=1e-3, atol=1e-3)
    assert not np.allclose(expected[0], expected[1], atol=1e-2)
    assert (batches.view(0), batches.view(4)) == (0, 1), "epoch 4 sees view 1 again"


def test_held_out_and_unlabelled_samples_are_even_over_the_classes_and_never_trained_on(tmp_path: Path) -> None:
    from distill_queue.shared.spec.sources.named import NamedDatasetSpec

    arrays = data.load(NamedDatasetSpec(name="mnist_5k", labelled=1000, validation=0.2), Reading(CPU))
    record = arrays.save(tmp_path)
    inputs, targets = (
        {split: np.load(tmp_path / f"{split}_{part}.npy") for split in ("train", "validation")}
        for part in ("inputs", "targets")
    )

    assert (record.train_samples, record.labelled_samples, record.validation_samples) == (3800, 800, 200)
    assert np.bincount(targets["validation"]).tolist() == [20] * 10
    assert np.bincount(targets["train"][targets["train"] >= 0]).tolist() == [80] * 10
    assert (targets["train"] == -1).sum() == 3000
    train = {row.tobytes() for row in inputs["train"]}
    assert not any(row.tobytes() in train for row in inputs["validation"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": {"shift": 2}}, "made with augmentation {'shift': 2}, not with {'shift': 1"),
        ({"augmentation_fingerprint": "0" * 32}, "made with other random numbers"),
        ({"dataset_key": "0" * 64}, "made for data set 00000000, not for "),
        ({"teacher_key": "0" * 64}, "made for teacher 00000000, not for "),
        ({"class_names": tuple("9876543210")}, "its class 0 is '9', not '0'"),
    ],
)
def test_a_student_refuses_labels_that_are_not_of_what_it_sees(
    make_spec: MakeSpec, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    artifacts = run_all(make_spec(soft_labels={"views": 2, "augmentation": {"shift": 1}}), tmp_path / "store")
    labels = artifacts["soft labels"]
    shutil.copytree(labels.folder, tmp_path / "other")
    header = SoftLabels.open(labels.folder).header
    altered = header.model_copy(update=changes).sealed(header.checksums)
    (tmp_path / "other" / HEADER).write_text(altered.model_dump_json())
    inputs = {"dataset": artifacts["prepare digits"], "soft_labels": labels}

    assert len(StageContext(inputs, tmp_path, CPU, say_nothing).soft_labels()[0]) == 1438
    inputs["soft_labels"] = Artifact(tmp_path / "other", labels.manifest)
    with pytest.raises(InvalidInput, match=re.escape(message)):
        StageContext(inputs, tmp_path, CPU, say_nothing).soft_labels()


@pytest.mark.parametrize("encoding", [{"dtype": "uint8"}, {"top_k": 3}, {"dtype": "uint8", "top_k": 3}])
def test_students_learn_from_every_encoding_by_every_loss(
    make_spec: MakeSpec, tmp_path: Path, encoding: dict[str, Any]
) -> None:
    losses = ("kd", "dkd", "dist", "mse")
    students = [
        {"name": loss, "model": {"name": "mlp", "hidden": [8]}, "distillation": {"loss": loss, "alpha": 1.0}}
        for loss in losses
    ]
    runner = StageRunner(FolderStore(tmp_path), CPU, say_nothing)

    def trained(soft_labels: dict[str, Any]) -> dict[str, Artifact]:
        stages = Plan.of(make_spec(students=students, soft_labels=soft_labels)).stages
        return {
            stage.title: runner.run(stage)
            for stage in stages
            if stage.kind in ("prepare_data", "train_teacher", "soft_labels", "distill")
        }

    some, exact = trained(encoding), trained({"dtype": "float32"})

    for loss in losses:
        one, other = some[f"distill {loss}"].record, exact[f"distill {loss}"].record
        assert isinstance(one, TrainingRecord)
        assert isinstance(other, TrainingRecord)
        assert one.loss == pytest.approx(other.loss, rel=0.3)
        assert one.loss != other.loss
