"""Trainings that are left and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn import metrics
from torch import nn

from distill_queue.shared.errors import HandedBack, StoreUnavailable
from distill_queue.shared.results.measure import Measure
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal

EPOCHS, STEPS_AN_EPOCH = 3, 4


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def with_channels_last() -> nn.Module:
    return with_batch_norm().to(memory_format=torch.channels_last)


@pytest.fixture
def data() -> Split:
    """A few random images of three classes; the last batch is a short one."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 3, (60,), generator=generator)
    return Split(inputs, targets, torch.tensor([128.0]), torch.tensor([70.0]), labelled=60)


def new(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build()


def train(
    model: nn.Module, data: Split, folder: Path, stop_at: int | None = None, every: float = 1e9, **changes: Any
) -> Trained:
    """Train a model; with `stop_at`, have the report of that step end it."""
    training = TrainingSpec.model_validate({"epochs": EPOCHS, "batch_size": 16} | changes)
    steps = 0

    def report(progress: str, samples: int = 0, share: float | None = None) -> None:
        nonlocal steps
        steps += "step" in progress
        if steps == stop_at:
            raise HandedBack(progress)

    members = [Member(model, training, Goal(), class_names=("one", "two", "three"))]
    batches = Batches(data, training.augmentation, None, torch.float32)
    (trained,) = fit(members, batches, data, torch.float32, report, Checkpoints(folder, every))
    assert isinstance(trained, Trained)
    return trained


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("build", [mlp, with_dropout, with_batch_norm, with_channels_last])
def test_a_training_that_was_left_ends_with_the_weights_of_one_that_was_not(
    data: Split, tmp_path: Path, build: Callable[[], nn.Module], optimizer: str, schedule: str
) -> None:
    choices = {"optimizer": optimizer, "schedule": schedule, "seed": 7}
    undisturbed = new(build)
    expected = train(undisturbed, data, tmp_path / "undisturbed", **choices)

    for stop_at in (1, 2, 5):
        with pytest.raises(HandedBack):
            train(new(build), data, tmp_path / "left", stop_at, **choices)
    resumed = new(build)
    trained = train(resumed, data, tmp_path / "left", **choices)

    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert trained.history.model_dump_json() == expected.history.model_dump_json()
    assert len(trained.history.losses) == len(trained.history.held_out_accuracies) == EPOCHS
    assert trained.record.steps == expected.record.steps


@pytest.mark.parametrize(
    "choices",
    [
        {"sampling": "balanced", "keep": "best", "best_by": "macro_f1"},
        {"class_weights": "balanced", "keep": "best", "best_by": "loss"},
        {"class_weights": {"two": 5.0}, "patience": 1, "best_by": "balanced_accuracy"},
    ],
)
def test_a_training_that_minds_classes_goes_on_to_the_same_bits(
    data: Split, tmp_path: Path, choices: dict[str, Any]
) -> None:
    undisturbed = new(with_dropout)
    expected = train(undisturbed, data, tmp_path / "undisturbed", learning_rate=1e-2, **choices)

    for stop_at in (2, 5):
        with pytest.raises(HandedBack):
            train(new(with_dropout), data, tmp_path / "left", stop_at, learning_rate=1e-2, **choices)
    resumed = new(with_dropout)
    trained = train(resumed, data, tmp_path / "left", learning_rate=1e-2, **choices)

    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert trained.history == expected.history
    assert trained.history.best_by == trained.record.best_by == choices["best_by"]
    assert trained.record.held_out_measure == trained.history.held_out_measures[trained.record.kept_epoch - 1]


@pytest.mark.parametrize("measure", ["balanced_accuracy", "macro_f1", "loss"])
def test_the_epoch_is_kept_that_is_best_by_what_is_asked_for(data: Split, tmp_path: Path, measure: Measure) -> None:
    model = new(mlp)
    trained = train(model, data, tmp_path, epochs=12, learning_rate=3e-2, keep="best", best_by=measure)

    values = list(trained.history.held_out_measures)
    kept = trained.record.kept_epoch - 1
    assert len(set(values)) > 1
    assert values[kept] == (min(values) if measure == "loss" else max(values))
    logits = model(data.normalised(slice(None))).detach()
    given = logits.argmax(1).numpy()
    expected = {
        "balanced_accuracy": metrics.balanced_accuracy_score(data.targets, given),
        "macro_f1": metrics.f1_score(data.targets, given, average="macro"),
        "loss": nn.functional.cross_entropy(logits, data.targets).item(),
    }
    assert values[kept] == pytest.approx(expected[measure], rel=1e-5)


def test_a_plain_training_has_nothing_new_in_record_history_and_checkpoint(data: Split, tmp_path: Path) -> None:
    with pytest.raises(HandedBack):
        train(new(mlp), data, tmp_path, stop_at=6, keep="best")
    checkpoint = Checkpoints(tmp_path, 30.0).latest()
    trained = train(new(mlp), data, tmp_path, keep="best")

    assert checkpoint is not None
    assert "measures" not in checkpoint.facts
    assert {len(point) for curve in checkpoint.facts["curves"] for point in curve} == {3}
    assert not {"best_by", "held_out_measure"} & trained.record.model_dump().keys()
    assert not {"best_by", "held_out_measures"} & trained.history.model_dump().keys()


def test_a_resumed_training_does_only_the_steps_that_are_left(data: Split, tmp_path: Path) -> None:
    with pytest.raises(HandedBack):
        train(new(mlp), data, tmp_path, stop_at=10)

    with pytest.raises(HandedBack):
        train(new(mlp), data, tmp_path, stop_at=2)
    train(new(mlp), data, tmp_path)

    (left,) = tmp_path.iterdir()
    assert left.name.startswith("000000000012-")


def test_checkpoints_are_written_when_they_are_due_and_the_older_ones_removed(data: Split, tmp_path: Path) -> None:
    train(new(mlp), data, tmp_path, every=1e-9)

    (last,) = tmp_path.iterdir()
    assert 0 < int(last.name.partition("-")[0]) <= EPOCHS * STEPS_AN_EPOCH


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"\xff", lambda _: b""])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    checkpoints = Checkpoints(tmp_path, 30.0)
    checkpoints.save(1, Checkpoint({"weights": torch.ones(3)}, {"epoch": 0}))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    later = tmp_path / path.name.replace("000000000001", "000000000002")
    later.write_bytes(damage(whole))

    found = checkpoints.latest()

    assert found is not None
    assert torch.equal(found.tensors["weights"], torch.ones(3))
    assert found.facts["epoch"] == 0


def test_the_time_that_telling_of_a_checkpoint_takes_does_not_bring_the_next_one_nearer(tmp_path: Path) -> None:
    told = []
    checkpoints = Checkpoints(tmp_path, 30.0, saved=lambda: told.append(checkpoints.age_seconds), _saved=-1e6)

    checkpoints.save(1, Checkpoint({"weights": torch.ones(3)}, {}))

    assert told[0] > 1e6, "it counts from when all is told"
    assert checkpoints.age_seconds < 1e6


def test_a_costly_checkpoint_is_written_less_often(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_seconds=1e-9, _cost_seconds=1.0)

    assert not checkpoints.due


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match="file"):
        Checkpoints(tmp_path / "file", 30.0).save(1, Checkpoint({"weights": torch.ones(3)}, {}))

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_memory_formats_change_no_step(data: Split, tmp_path: Path) -> None:
    plain, last = new(with_batch_norm), new(with_channels_last)

    train(plain, data, tmp_path / "plain", optimizer="sgd", schedule="constant")
    train(last, data, tmp_path / "last", optimizer="sgd", schedule="constant")

    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, last.state_dict()[name], rtol=1e-3, atol=1e-5)
