"""Models of the user's own that start from weights, or are frozen in part."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from distill_queue.scheduler.client.given_files import store_given
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.stages.context import WEIGHTS
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.worker.conftest import CPU, take_as_its_own


@pytest.fixture(autouse=True)
def own(mine: ModuleType) -> None:
    """A model of the user's own with a norm."""
    mine.model = lambda input_shape, classes: nn.Sequential(  # type: ignore[attr-defined]
        nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, classes)
    )
    take_as_its_own(mine)


def train_teacher(folder: Path, **teacher: Any) -> Artifact:
    own = {"model": {"name": "mine:model"}, "training": {"epochs": 2, "batch_size": 16}} | teacher
    student = {"name": "s", "model": {"name": "mlp", "hidden": [2]}}
    data = {"name": "own", "dataset": {"name": "mine:data"}, "teacher": own, "students": [student]}
    spec = PipelineSpec.of(data)
    plan, store = Plan.of(spec), FolderStore(folder / "store")
    store_given(store, spec, plan)
    first: tuple[Stage, ...] = plan.trunk[:2]
    return [StageRunner(store, CPU, lambda *_: None).run(stage) for stage in first][-1]


def test_a_model_of_the_users_own_starts_from_weights_and_is_frozen_in_part(tmp_path: Path) -> None:
    given = {
        "1.weight": torch.full((4, 16), 0.1),
        "1.bias": torch.zeros(4),
        "2.weight": torch.full((4,), 2.0),
        "2.bias": torch.zeros(4),
        "2.running_mean": torch.full((4,), 0.25),
        "2.running_var": torch.full((4,), 4.0),
        "2.num_batches_tracked": torch.tensor(7),
        "4.weight": torch.ones(5, 4),
        "4.bias": torch.ones(5),
    }
    save_file(given, tmp_path / "w.safetensors")
    training = {"epochs": 2, "batch_size": 16, "freeze": ["1.*", "2.*"], "learning_rates": {"4.bias": 0.1}}

    made = train_teacher(tmp_path, weights={"file": str(tmp_path / "w.safetensors")}, training=training)

    found = load_file(made.path(WEIGHTS))
    for name in given:
        assert name.startswith("4.") or torch.equal(found[name], given[name]), name
    assert found["4.weight"].shape == (3, 4)
    assert isinstance(made.record, TrainingRecord)
    assert made.record.trained_parameters == 15
    assert made.record.start == "from w.safetensors; 4.weight, 4.bias drawn anew, for other classes"


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"freeze": ["norm.*"]}, r"training\.freeze: 'norm\.\*' matches no parameter"),
        ({"freeze": ["*"]}, r"training\.freeze: all parameters are frozen"),
        ({"learning_rates": {"3.*": 0.1}}, r"training\.learning_rates: '3\.\*' matches no parameter"),
    ],
)
def test_what_only_a_worker_knows_is_refused_there(tmp_path: Path, training: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        train_teacher(tmp_path, training=training)


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"1.weight": torch.ones(4, 15), "x": torch.ones(1)}, tmp_path / "w.safetensors")

    with pytest.raises(
        InvalidSpec, match=r"weights: w\.safetensors: not the weights of this model: missing 1\.bias"
    ) as e:
        train_teacher(tmp_path, weights={"file": str(tmp_path / "w.safetensors")})

    assert "unexpected x; 1.weight is [4, 15], not [4, 16]" in str(e.value)
