"""Steps that a card replays from a recording: the same bytes as without, whatever is trained and however."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import HandedBack
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine import recorded_step
from distill_queue.worker.machine.recorded_step import WARM_UPS, RecordedStep
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import Mlp
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal
from tests.gpu.conftest import contents, plan, run
from tests.gpu.test_seeds import Leaving, state_of

pytestmark = pytest.mark.gpu

MLP = {"name": "mlp", "hidden": [64, 32]}
CNN = {"name": "cnn", "width": 8, "depth": 2}
RESNET = {"name": "resnet8"}
#: Models and what is said of their training; 2,340 samples in batches of 64 leave a smaller one for the last.
TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": (MLP, {}),
    "mlp in float32": (MLP, {"precision": "float32"}),
    "mlp, adamw": (MLP, {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup": 0.1}),
    "mlp, sgd": (MLP, {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4}),
    "mlp, constant rate": (MLP, {"schedule": "constant", "label_smoothing": 0.1}),
    "mlp, mixup": (MLP, {"augmentation": {"mixup": 0.5}}),
    "mlp, keeping the best": (MLP, {"keep": "best"}),
    "cnn": (CNN, {}),
    "cnn in float32": (CNN, {"precision": "float32"}),
    "cnn, views": (CNN, {"augmentation": {"shift": 2, "flip": True, "mixup": 0.2}, "optimizer": "sgd"}),
    "cnn, squares cut out": (CNN, {"augmentation": {"cutout": 4}}),
    "mlp, clipped and averaged": (MLP, {"clip_norm": 0.5, "ema_decay": 0.9, "optimizer": "sgd", "nesterov": False}),
    "mlp by milestones": (MLP, {"schedule": "step", "milestones": [1], "optimizer": "sgd", "momentum": 0.0}),
    "mlp in float16": (MLP, {"precision": "float16"}),
    "cnn in float16, clipped and averaged": (CNN, {"precision": "float16", "clip_norm": 0.5, "ema_decay": 0.9}),
    "resnet8": (RESNET, {"optimizer": "adamw", "weight_decay": 0.01}),
}


class Counting(logging.Handler):
    """What recorded steps say."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    @property
    def recorded(self) -> int:
        """How many trainings were recorded, and recorded only."""
        assert not [line for line in self.said if "not recorded" in line], self.said
        return len(self.said)


@pytest.fixture
def told() -> Iterator[Counting]:
    """What is logged of recordings."""
    counting, logger = Counting(), recorded_step.logger
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(counting)
    yield counting
    logger.removeHandler(counting)
    logger.setLevel(level)


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no batch be small enough for a recording."""
    monkeypatch.setattr(recorded_step, "LARGEST_SHARE", 0.0)


def teaching(model: dict[str, Any], *, epochs: int = 2, **training: Any) -> Plan:
    """A plan whose teacher is trained so; a tenth of the samples is held out."""
    student = {"name": "s", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 1}}
    spec = {
        "name": "recorded",
        "dataset": {"name": "mine:data", "validation": 0.1},
        "teacher": {"model": model, "training": {"epochs": epochs, "batch_size": 64} | training},
        "students": [student],
    }
    return Plan.of(PipelineSpec.model_validate(spec))


def distillation(loss: str, *, seeds: int = 1, labels: dict[str, Any] | None = None) -> Plan:
    """A plan of a teacher, students that learn by a loss, and a control."""
    training = {"epochs": 2, "batch_size": 64}
    student = {
        "name": "s",
        "model": {"name": "mlp", "hidden": [8]},
        "training": training,
        "seeds": seeds,
        "distillation": {"loss": loss},
    }
    spec = {
        "name": "recorded",
        "dataset": {"name": "mine:data"},
        "teacher": {"model": {"name": "mlp", "hidden": [16]}, "training": training},
        "soft_labels": labels or {},
        "students": [student],
    }
    return Plan.of(PipelineSpec.model_validate(spec))


@pytest.mark.parametrize("name", TRAININGS)
def test_replayed_steps_give_the_bytes_of_steps_taken_one_by_one(
    tmp_path: Path, runtime: Runtime, told: Counting, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, training = TRAININGS[name]
    asked = teaching(model, **training)

    found = run(asked, tmp_path / "recorded", runtime, "train_teacher")["train_teacher"]
    assert told.recorded == (runtime.device.type == "cuda"), told.said
    one_by_one(monkeypatch)
    expected = run(asked, tmp_path / "one by one", runtime, "train_teacher")["train_teacher"]

    assert told.recorded == (runtime.device.type == "cuda"), "a training was recorded that was not to be"
    assert contents(found) == contents(expected), (found.record, expected.record)


@pytest.mark.parametrize(
    "labels",
    [{}, {"top_k": 3}, {"dtype": "uint8", "views": 2, "augmentation": {"shift": 1, "mixup": 0.3}}],
    ids=["dense", "top 3", "two views"],
)
@pytest.mark.parametrize("loss", ["kd", "dkd", "dist", "mse"])
def test_replayed_distillations_give_the_bytes_of_steps_taken_one_by_one(
    tmp_path: Path, runtime: Runtime, told: Counting, monkeypatch: pytest.MonkeyPatch, loss: str, labels: dict[str, Any]
) -> None:
    asked, kinds = distillation(loss, labels=labels), ("train_teacher", "soft_labels", "distill", "train_control")

    found = run(asked, tmp_path / "recorded", runtime, *kinds)
    assert told.recorded == 3 * (runtime.device.type == "cuda"), told.said
    one_by_one(monkeypatch)
    expected = run(asked, tmp_path / "one by one", runtime, *kinds)

    for kind in kinds:
        assert contents(found[kind]) == contents(expected[kind]), (kind, found[kind].record, expected[kind].record)


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist"])
def test_a_replayed_stack_gives_the_bytes_of_steps_taken_one_by_one(
    tmp_path: Path, runtime: Runtime, told: Counting, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    asked = distillation(loss, seeds=4)
    bundle = max((bundle for branch in asked.branches for bundle in branch), key=len)
    found = []

    for name in ("recorded", "one by one"):
        run(asked, tmp_path / name, runtime, "train_teacher", "soft_labels")
        del told.said[:]
        runner = StageRunner(FolderStore(tmp_path / name), runtime, lambda *_: None)
        found.append([contents(artifact) for artifact in runner.train(bundle, bundle).values()])
        assert told.recorded == (runtime.device.type == "cuda" and name == "recorded"), told.said
        one_by_one(monkeypatch)

    assert len(bundle) >= 4
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["mlp, adamw", "cnn", "cnn, views", "cnn in float16, clipped and averaged"])
def test_a_recorded_training_that_was_left_ends_with_the_bytes_of_one_that_was_neither(
    tmp_path: Path, runtime: Runtime, told: Counting, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, training = TRAININGS[name]
    asked = teaching(model, epochs=3, **training)

    # After a few steps, within and right after the warm-ups of a second recording, and in the middle of a third.
    for stop_at in (30, WARM_UPS - 1, WARM_UPS + 2, 40):
        with pytest.raises(HandedBack):
            run(asked, tmp_path / "left", runtime, "train_teacher", report=Leaving(stop_at), checkpoint_seconds=1e9)
    left = run(asked, tmp_path / "left", runtime, "train_teacher")["train_teacher"]
    assert told.recorded == 4 * (runtime.device.type == "cuda"), told.said
    one_by_one(monkeypatch)
    undisturbed = run(asked, tmp_path / "undisturbed", runtime, "train_teacher")["train_teacher"]

    assert contents(left)["model.safetensors"] == contents(undisturbed)["model.safetensors"]


@pytest.mark.parametrize("model", ["mine:with_dropout", "mine:wrong_in_bfloat16"])
def test_a_model_of_the_users_own_is_not_recorded(tmp_path: Path, runtime: Runtime, told: Counting, model: str) -> None:
    run(plan({"name": model}, precision="float32"), tmp_path, runtime, "train_teacher")

    assert not told.said


def test_steps_of_several_batches_and_models_that_drop_are_not_recorded(
    tmp_path: Path, runtime: Runtime, told: Counting
) -> None:
    run(teaching(MLP, accumulate=2), tmp_path / "accumulated", runtime, "train_teacher")
    run(teaching(CNN | {"dropout": 0.2}), tmp_path / "dropping", runtime, "train_teacher")

    assert not told.said


class Waiting(nn.Module):
    """A model that says that it can be recorded and then waits for the card, so that it cannot."""

    repeats_its_kernels = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.first(inputs.flatten(1)).relu()
        return self.head(features * max(1.0, features.detach().sum().item()) ** 0.1)


def trained(
    model: nn.Module, device: torch.device, folder: Path, *, recorded: bool, streamed: bool = False
) -> list[torch.Tensor]:
    """The weights of a model after a training on random samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (200, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 3, (200,), generator=generator).to(device)
    mean, std = (torch.tensor(each, device=device).view(1, 1, 1) for each in (128.0, 70.0))
    data = Split(inputs.numpy() if streamed else inputs.to(device), targets, mean, std, labelled=200)
    training = TrainingSpec(epochs=2, batch_size=16)
    batches = Batches(data, training.augmentation, None, torch.float32)
    members, checkpoints = [Member(model, training, Goal())], Checkpoints(folder, 1e9)
    (outcome,) = fit(members, batches, None, torch.float32, lambda *_: None, checkpoints, recorded=recorded)
    assert isinstance(outcome, Trained)
    return [tensor.detach().cpu() for tensor in model.state_dict().values()]


def test_steps_on_streamed_samples_are_replayed_to_the_same_bits(
    tmp_path: Path, card: torch.device, told: Counting
) -> None:
    weights = []
    for recorded in (True, False):
        torch.manual_seed(3)
        model = Mlp(16, (8,), 3).to(card)
        weights.append(trained(model, card, tmp_path / str(recorded), recorded=recorded, streamed=recorded))

    assert told.recorded == 1, told.said
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_step_that_cannot_be_recorded_is_taken_one_by_one_to_the_same_bits_and_said_once(
    tmp_path: Path, card: torch.device, told: Counting
) -> None:
    weights = []
    for recorded in (True, False):
        torch.manual_seed(3)
        weights.append(trained(Waiting().to(card), card, tmp_path / str(recorded), recorded=recorded))

    assert len(told.said) == 1, told.said
    (line,) = told.said
    assert line.startswith("the training's steps are not recorded, but taken one by one: "), line
    assert "\n" not in line
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert torch.cuda.current_stream() == torch.cuda.default_stream(), "a failed recording left its stream"
    state = state_of(card)
    numbers = torch.rand(5, device=card)
    torch.cuda.set_rng_state(state, card)
    assert torch.equal(torch.rand(5, device=card), numbers), "a failed recording left the generator in another state"


def test_a_training_after_one_that_could_not_be_recorded_is_recorded(
    tmp_path: Path, runtime: Runtime, card: torch.device, told: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(Waiting().to(card), card, tmp_path / "fails", recorded=True)
    del told.said[:]

    found = run(plan(CNN), tmp_path / "recorded", runtime, "train_teacher")["train_teacher"]
    assert told.recorded == 1, told.said
    one_by_one(monkeypatch)
    expected = run(plan(CNN), tmp_path / "one by one", runtime, "train_teacher")["train_teacher"]

    assert contents(found) == contents(expected)


def test_replays_leave_the_devices_generator_as_it_was(card: torch.device) -> None:
    total, take = torch.zeros(2, device=card), RecordedStep(batch_size=8)
    inputs = torch.ones(2, 8, 3, device=card)

    def step(inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total.add_(inputs.sum((1, 2)))
        return (total * 2,)

    torch.rand(5, device=card)
    before, numbers = state_of(card), torch.rand(5, device=card)
    torch.cuda.set_rng_state(before, card)

    outcomes = [take(step, inputs)[0].tolist() for _ in range(WARM_UPS + 3)]

    assert outcomes == [[48.0 * count] * 2 for count in range(1, WARM_UPS + 4)]
    assert torch.equal(state_of(card), before)
    assert torch.equal(torch.rand(5, device=card), numbers)


def test_the_memory_of_a_recording_is_given_back_when_its_training_ends(
    tmp_path: Path, runtime: Runtime, card: torch.device
) -> None:
    held = []

    for name in "abc":
        run(plan(CNN, epochs=1), tmp_path / name, runtime, "train_teacher")
        held.append(torch.cuda.memory_allocated(card))

    assert held[0] == held[1] == held[2], held
