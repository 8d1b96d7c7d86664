"""Trainings beside loops of torch's own parts: clipping, accumulation, averages, momentum and loss scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from distill_queue.shared.errors import HandedBack, StageFailed
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.models import Cnn, Mlp
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.descent import loss_scale
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal

EPOCHS, SAMPLES, BATCH = 3, 60, 16


def mlp() -> nn.Module:
    return Mlp(16, (8,), 3)


def cnn() -> nn.Module:
    return Cnn(1, 4, 1, 3)


@pytest.fixture(scope="module", autouse=True)
def torchs_optimizers() -> None:
    """Load what torch loads at the first use of an optimiser, which takes longer than any test here."""
    torch.optim.SGD([torch.zeros(1)], 0.1).step()


@pytest.fixture
def data() -> Split:
    """A few random images of three classes; the last batch of 16 is a short one."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (SAMPLES, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 3, (SAMPLES,), generator=generator)
    return Split(inputs, targets, torch.tensor([128.0]), torch.tensor([70.0]), labelled=SAMPLES)


def new(build: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    models: Sequence[nn.Module],
    data: Split,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    stop_at: int = 0,
    first_seed: int = 0,
    **changes: Any,
) -> list[Trained | StageFailed]:
    """Train models, each with a seed of its own; with `stop_at`, have the report of that batch end it."""
    training = TrainingSpec.model_validate(
        {"epochs": EPOCHS, "batch_size": BATCH, "schedule": "constant", "learning_rate": 0.05} | changes
    )
    batches_seen = 0

    def report(progress: str, samples: int = 0, share: float | None = None) -> None:
        nonlocal batches_seen
        batches_seen += bool(samples)
        if batches_seen == stop_at:
            raise HandedBack(progress)

    members = [
        Member(model, training.model_copy(update={"seed": seed}), Goal())
        for seed, model in enumerate(models, first_seed)
    ]
    batches = Batches(data, training.augmentation, None, dtype)
    return fit(members, batches, data, dtype, report, Checkpoints(folder, 1e9))


def batches_of(data: Split, size: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches that a training with a seed sees, epoch by epoch."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (data.normalised(rows), data.targets[rows])
        for _ in range(EPOCHS)
        for rows in torch.randperm(len(data), generator=generator).split(size)
    ]


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    defaults = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "fused": True}
    return torch.optim.SGD(model.parameters(), **(defaults | options))


def assert_same(one: nn.Module, other: nn.Module, rtol: float = 1e-5) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=rtol, atol=1e-6, msg=name)


@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize("norm", [0.05, 0.5, 1e6])
def test_clipped_gradients_are_those_of_torchs_clip_grad_norm(
    data: Split, tmp_path: Path, build: Callable[[], nn.Module], norm: float
) -> None:
    ours, theirs = new(build), new(build)
    train([ours], data, tmp_path, optimizer="sgd", clip_norm=norm)

    optimizer = sgd(theirs)
    for inputs, targets in batches_of(data, BATCH):
        functional.cross_entropy(theirs(inputs), targets).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), norm)
        optimizer.step()
        optimizer.zero_grad()

    assert_same(ours, theirs)


@pytest.mark.parametrize("options", [{"momentum": 0.5}, {"nesterov": False}, {"momentum": 0.0}])
def test_momentum_is_that_of_torchs_sgd(data: Split, tmp_path: Path, options: dict[str, Any]) -> None:
    ours, theirs = new(mlp), new(mlp)
    train([ours], data, tmp_path, optimizer="sgd", **options)

    optimizer = sgd(theirs, **options | ({} if options.get("momentum", 1) else {"nesterov": False}))
    for inputs, targets in batches_of(data, BATCH):
        functional.cross_entropy(theirs(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    assert_same(ours, theirs)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("options", [{}, {"schedule": "one_cycle"}, {"clip_norm": 0.1, "ema_decay": 0.5}])
def test_batches_that_make_a_step_together_are_as_one_batch_of_their_size(
    data: Split, tmp_path: Path, optimizer: str, options: dict[str, Any]
) -> None:
    parts, whole = new(mlp), new(mlp)

    # Of 60 samples: 32 and 28 at once, or 8 x 4 and then 8, 8, 8 and 4.
    (accumulated,) = train(
        [parts], data, tmp_path / "parts", optimizer=optimizer, batch_size=8, accumulate=4, **options
    )
    (at_once,) = train([whole], data, tmp_path / "whole", optimizer=optimizer, batch_size=32, **options)

    assert_same(parts, whole, rtol=1e-4)
    assert isinstance(accumulated, Trained)
    assert isinstance(at_once, Trained)
    assert accumulated.record.steps == at_once.record.steps == 2 * EPOCHS
    assert accumulated.history.losses == pytest.approx(at_once.history.losses, rel=1e-4)
    assert accumulated.history.held_out_accuracies == at_once.history.held_out_accuracies


def test_the_last_step_of_an_epoch_weighs_its_batches_by_their_samples(data: Split, tmp_path: Path) -> None:
    parts, whole = new(mlp), new(mlp)

    train([parts], data, tmp_path / "parts", optimizer="sgd", batch_size=32, accumulate=7)
    train([whole], data, tmp_path / "whole", optimizer="sgd", batch_size=SAMPLES)

    assert_same(parts, whole, rtol=1e-4)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("build", [mlp, cnn])
def test_averaged_weights_and_buffers_are_those_of_torchs_averaged_model(
    data: Split, tmp_path: Path, build: Callable[[], nn.Module], keep: str
) -> None:
    ours, theirs = new(build), new(build)
    (trained,) = train([ours], data, tmp_path, optimizer="sgd", ema_decay=0.8, keep=keep)

    optimizer = sgd(theirs)
    average = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    steps, epochs, accuracies = batches_of(data, BATCH), [], []
    for number, (inputs, targets) in enumerate(steps, start=1):
        functional.cross_entropy(theirs.train()(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(theirs)
        if number % (len(steps) // EPOCHS) == 0:
            right = average.module.eval()(data.normalised(slice(None))).argmax(1) == data.targets
            accuracies.append(right.float().mean().item())
            floating = {name: each for name, each in average.module.state_dict().items() if each.is_floating_point()}
            epochs.append({name: tensor.clone() for name, tensor in floating.items()})

    assert isinstance(trained, Trained)
    assert trained.history.held_out_accuracies == pytest.approx(accuracies)
    kept = epochs[accuracies.index(max(accuracies))] if keep == "best" else epochs[-1]
    for name, tensor in kept.items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}])
def test_steps_in_float16_are_those_of_torchs_grad_scaler(
    data: Split, tmp_path: Path, optimizer: str, options: dict[str, Any]
) -> None:
    data.std.fill_(4.0)  # Inputs that are this large overflow with the first loss scales.
    ours, theirs = new(mlp), new(mlp)
    (trained,) = train([ours], data, tmp_path, torch.float16, optimizer=optimizer, learning_rate=1e-3, **options)

    scaler, skipped = torch.amp.GradScaler("cpu"), 0
    adam = torch.optim.Adam(theirs.parameters(), 1e-3, fused=True)
    # Fused, it would begin with a momentum that nobody has written where the first step is skipped (torch 2.15).
    other = sgd(theirs, lr=1e-3, fused=False) if optimizer == "sgd" else adam
    for inputs, targets in batches_of(data, BATCH):
        with torch.autocast("cpu", torch.float16):
            logits = theirs(inputs.half())
        scaler.scale(functional.cross_entropy(logits.float(), targets)).backward()
        scaler.unscale_(other)
        if options:
            nn.utils.clip_grad_norm_(theirs.parameters(), options["clip_norm"])
        before = scaler.get_scale()
        scaler.step(other)
        scaler.update()
        skipped += scaler.get_scale() < before
        other.zero_grad()

    assert isinstance(trained, Trained)
    assert trained.record.precision == "float16"
    assert trained.record.skipped_steps == skipped > 0
    assert_same(ours, theirs, rtol=1e-3)


def test_a_training_in_float16_fails_if_none_of_many_steps_can_be_taken(
    data: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**100)
    monkeypatch.setattr(loss_scale, "MOST_SKIPPED", 10)

    (failed,) = train([new(mlp)], data, tmp_path, torch.float16, epochs=50)

    assert isinstance(failed, StageFailed)
    assert str(failed).startswith("the gradients are not finite in float16 in 12 steps one after the other: try a")


def test_several_models_are_not_trained_side_by_side_in_float16(data: Split, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="one by one"):
        train([new(mlp), new(mlp)], data, tmp_path, torch.float16)


#: What a step can be, beside its optimiser and its schedule.
OPTIONS: dict[str, dict[str, Any]] = {
    "clipped": {"clip_norm": 0.1},
    "accumulated": {"accumulate": 3, "schedule": "one_cycle", "optimizer": "adamw", "weight_decay": 0.1},
    "averaged": {"ema_decay": 0.9, "keep": "best"},
    "without momentum": {"optimizer": "sgd", "momentum": 0.0},
    "by milestones": {"schedule": "step", "milestones": [1, 2]},
    "all": {"clip_norm": 0.1, "accumulate": 3, "ema_decay": 0.9, "optimizer": "sgd", "nesterov": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    ("build", "dtype"), [(mlp, torch.float32), (mlp, torch.float16), (cnn, torch.float32)], ids=["mlp", "half", "cnn"]
)
def test_a_training_that_was_left_at_any_batch_goes_on_to_the_same_bits(
    data: Split, tmp_path: Path, build: Callable[[], nn.Module], options: dict[str, Any], dtype: torch.dtype
) -> None:
    if dtype == torch.float16:
        data.std.fill_(1.0)
    expected = new(build).to(memory_format=torch.channels_last)
    (undisturbed,) = train([expected], data, tmp_path / "undisturbed", dtype, **options)

    # In the middle of a step, at its end, and at the end of an epoch.
    for stop_at in (1, 1, 1, 2, 3, 1):
        model = new(build).to(memory_format=torch.channels_last)
        with pytest.raises(HandedBack):
            train([model], data, tmp_path / "left", dtype, stop_at, **options)
    resumed = new(build).to(memory_format=torch.channels_last)
    (left,) = train([resumed], data, tmp_path / "left", dtype, **options)

    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert isinstance(left, Trained)
    assert isinstance(undisturbed, Trained)
    assert left.history == undisturbed.history
    assert left.record.skipped_steps == undisturbed.record.skipped_steps


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_models_side_by_side_are_as_if_each_had_been_trained_alone(
    data: Split, tmp_path: Path, options: dict[str, Any]
) -> None:
    together, alone = ([new(mlp, seed) for seed in range(3)] for _ in range(2))

    stacked = train(together, data, tmp_path / "together", **options)
    for seed, model in enumerate(alone):
        train([model], data, tmp_path / str(seed), first_seed=seed, **options)

    assert all(isinstance(each, Trained) for each in stacked)
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other, rtol=1e-4)


def test_progress_counts_steps_and_the_share_that_is_done_batches(data: Split, tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    training = TrainingSpec(epochs=1, batch_size=16, accumulate=3)
    batches = Batches(data, training.augmentation, None, torch.float32)

    fit(
        [Member(new(mlp), training, Goal())],
        batches,
        None,
        torch.float32,
        lambda words, samples=0, share=None, /: told.append((words, share)),
        Checkpoints(tmp_path, 1e9),
    )

    steps = [(words.split(" · ")[1], share) for words, share in told[:4]]
    assert steps == [("step 0/2", 0.25), ("step 0/2", 0.5), ("step 1/2", 0.75), ("step 2/2", 1.0)]
