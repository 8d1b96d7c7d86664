"""The same bytes each time: what results have the names of their recipes for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.gpu.conftest import DEVICE, contents, plan, run

pytestmark = pytest.mark.gpu

#: The last one takes a minute where there is no card.
MODELS: list[dict[str, Any]] = [
    {"name": "mlp", "hidden": [64, 32]},
    {"name": "cnn", "width": 8, "depth": 2},
    {"name": "resnet8"},
    *([{"name": "torchvision/resnet18"}] if DEVICE == "cuda" else []),
]


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_a_training_gives_the_same_bytes_twice(
    tmp_path: Path, runtime: Runtime, model: dict[str, Any], precision: str
) -> None:
    asked = plan(model, precision=precision, epochs=1)

    first, second = (run(asked, tmp_path / name, runtime, "train_teacher")["train_teacher"] for name in "ab")

    assert contents(first) == contents(second)


@pytest.mark.parametrize("labels", [{}, {"dtype": "uint8"}, {"top_k": 3}], ids=["dense", "bytes", "top 3"])
def test_soft_labels_and_their_students_have_the_same_bytes_twice(
    tmp_path: Path, runtime: Runtime, labels: dict[str, Any]
) -> None:
    kinds = ("train_teacher", "soft_labels", "distill")
    asked = plan(labels=labels)

    first, second = (run(asked, tmp_path / name, runtime, *kinds) for name in "ab")

    for kind in kinds:
        assert contents(first[kind]) == contents(second[kind]), kind


def test_a_stack_of_students_gives_the_same_bytes_twice(tmp_path: Path, runtime: Runtime) -> None:
    training = {"epochs": 1, "batch_size": 64}
    student = {"name": "s", "model": {"name": "mlp", "hidden": [8]}, "training": training, "seeds": 4}
    teacher = {"model": {"name": "mlp", "hidden": [16]}, "training": training}
    data = {"name": "stacked", "dataset": {"name": "mine:data"}, "teacher": teacher, "students": [student]}
    asked = Plan.of(PipelineSpec.model_validate(data))
    bundle = max((bundle for branch in asked.branches for bundle in branch), key=len)
    found = []

    for name in "ab":
        run(asked, tmp_path / name, runtime, "train_teacher", "soft_labels")
        runner = StageRunner(FolderStore(tmp_path / name), runtime, lambda *_: None)
        found.append([contents(artifact) for artifact in runner.train(bundle, bundle).values()])

    assert len(bundle) > 1
    assert found[0] == found[1]


def test_a_model_that_torch_cannot_train_deterministically_is_refused_or_named(
    tmp_path: Path, runtime: Runtime
) -> None:
    asked = plan({"name": "mine:upsampling"}, precision="float32", epochs=1)

    refusal, trained = "", []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            trained = [run(asked, tmp_path / name, runtime, "train_teacher")["train_teacher"] for name in "ab"]
        except InvalidSpec as error:
            refusal = str(error)

    named = any("does not have a deterministic implementation" in str(warning.message) for warning in told)
    same = not refusal and contents(trained[0]) == contents(trained[1])
    assert same or named or "of two equal training steps from one state" in refusal


def test_matrix_products_are_computed_in_the_precision_that_is_said(
    tmp_path: Path, runtime: Runtime, card: torch.device
) -> None:
    trained = run(plan(precision="float32"), tmp_path, runtime, "train_teacher")["train_teacher"]

    assert isinstance(trained.record, TrainingRecord)
    assert trained.record.precision == "float32"
    one, other = (torch.randn(512, 512, device=card) for _ in range(2))
    exact = one.double() @ other.double()
    error = (one @ other - exact).abs().max() / exact.abs().max()
    assert error < 1e-5, "tf32 is off by some 3e-4"
