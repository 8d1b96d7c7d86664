"""Parameters that are frozen, or have learning rates of their own, beside torch's own optimisers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.errors import HandedBack, InvalidSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine import memory
from distill_queue.worker.models import Cnn, Mlp, freeze, frozen_names
from distill_queue.worker.models.torchvision import ColourInput
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal
from distill_queue.worker.training.stack import Stack

STEPS = 4


@pytest.fixture
def data() -> Split:
    """A few random images of three classes: one batch."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (32, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 3, (32,), generator=generator)
    return Split(inputs, targets, torch.tensor([128.0]), torch.tensor([70.0]), labelled=32)


def cnn() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Cnn(1, 4, 2, 3)


def mlp(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mlp(16, (8, 8), 3)


def train(
    models: list[nn.Module], data: Split, folder: Path, stop_at: int = 0, first: int = 0, **changes: Any
) -> list[Trained]:
    training = TrainingSpec.model_validate(
        {"epochs": STEPS, "batch_size": 32, "schedule": "constant", "precision": "float32"} | changes
    )
    steps = 0

    def report(progress: str, samples: int = 0, share: float | None = None) -> None:
        nonlocal steps
        steps += "step" in progress
        if stop_at and steps == stop_at:
            raise HandedBack(progress)

    members = []
    for seed, model in enumerate(models, start=first):
        freeze(model, training)
        members.append(Member(model, training.model_copy(update={"seed": seed}), Goal()))
    batches = Batches(data, training.augmentation, None, torch.float32)
    found = fit(members, batches, None, torch.float32, report, Checkpoints(folder, 1e9))
    return [each for each in found if isinstance(each, Trained)]


def torchs_training(model: nn.Module, data: Split, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    """The same in torch's own words; the mode of the modules stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randperm(len(data), generator=generator)
        inputs, targets = data.normalised(slice(None)), data.targets
        assert isinstance(inputs, torch.Tensor)
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()


def test_frozen_parameters_and_statistics_stay_as_they_are_and_the_others_are_trained_as_torch_does(
    data: Split, tmp_path: Path
) -> None:
    ours = cnn()
    before, theirs = copy.deepcopy(ours.state_dict()), copy.deepcopy(ours).train()
    theirs.get_submodule("blocks.0").requires_grad_(requires_grad=False).eval()
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]

    (found,) = train([ours], data, tmp_path, optimizer="adamw", weight_decay=0.1, freeze=["blocks.0.*"])
    groups = [
        {"params": [each for each in trained if each.ndim < 2], "weight_decay": 0.0},
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": 0.1},
    ]
    torchs_training(theirs, data, torch.optim.AdamW(groups, 1e-3, fused=True))

    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name])
        assert torch.equal(tensor, before[name]) == name.startswith("blocks.0."), name
    assert found.record.trained_parameters == sum(each.numel() for each in trained)


def test_a_batch_norm_that_is_frozen_in_part_learns_its_statistics(data: Split, tmp_path: Path) -> None:
    model = cnn()
    before = copy.deepcopy(model.state_dict())

    train([model], data, tmp_path, freeze=["blocks.0.2.weight"])

    assert torch.equal(model.state_dict()["blocks.0.2.weight"], before["blocks.0.2.weight"])
    assert not torch.equal(model.state_dict()["blocks.0.2.running_mean"], before["blocks.0.2.running_mean"])


def test_learning_rates_by_layer_and_pattern_are_those_of_torchs_groups(data: Split, tmp_path: Path) -> None:
    ours = cnn()
    theirs = copy.deepcopy(ours).train()
    rates = {"blocks.0.": 0.25e-3, "blocks.1.": 0.5e-3, "head.": 1e-3, "head.bias": 5e-3}
    groups = [
        {"params": [each], "lr": next(rate for start, rate in reversed(rates.items()) if name.startswith(start))}
        for name, each in theirs.named_parameters()
    ]

    train([ours], data, tmp_path, layer_decay=0.5, learning_rates={"head.b*": 5e-3})
    torchs_training(theirs, data, torch.optim.Adam(groups, fused=True))

    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name])


def test_a_training_of_some_parameters_that_was_left_ends_with_the_same_bytes(data: Split, tmp_path: Path) -> None:
    choices = {"freeze": ["blocks.0.*"], "learning_rates": {"head.*": 1e-2}}
    undisturbed, left = cnn(), cnn()
    train([undisturbed], data, tmp_path / "undisturbed", **choices)

    with pytest.raises(HandedBack):
        train([cnn()], data, tmp_path / "left", stop_at=2, **choices)
    (checkpoint,) = (tmp_path / "left").iterdir()
    train([left], data, tmp_path / "left", **choices)

    latest = Checkpoints(checkpoint.parent, 1.0).latest()
    assert latest is not None
    assert len([name for name in latest.tensors if name.startswith("optimizer/mean/")]) == 5  # Of eight parameters.
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, left.state_dict()[name]), name


@pytest.mark.parametrize("choices", [{"freeze": ["layers.0.*", "layers.1.bias"]}, {"layer_decay": 0.5}])
def test_stacked_models_are_frozen_and_paced_like_single_ones(
    data: Split, tmp_path: Path, choices: dict[str, Any]
) -> None:
    stacked, alone = [mlp(seed) for seed in range(3)], [mlp(seed) for seed in range(3)]

    train(stacked, data, tmp_path / "stacked", weight_decay=0.1, **choices)
    for seed, model in enumerate(alone):
        train([model], data, tmp_path / str(seed), first=seed, weight_decay=0.1, **choices)

    for seed, (one, other) in enumerate(zip(stacked, alone, strict=True)):
        for name, before in mlp(seed).state_dict().items():
            frozen = "freeze" in choices and name in ("layers.0.weight", "layers.0.bias", "layers.1.bias")
            torch.testing.assert_close(one.state_dict()[name], other.state_dict()[name])
            assert torch.equal(one.state_dict()[name], before) == frozen, name


def test_a_pass_through_frozen_first_layers_keeps_nothing_and_the_estimate_knows_it() -> None:
    model, training = Cnn(1, 32, 3, 10), TrainingSpec.model_validate({"freeze": ["blocks.*"]})
    inputs = torch.zeros(1, 1, 16, 16)
    whole = memory.of_training([model], TrainingSpec(), inputs, torch.float32, 0)

    freeze(model, training)
    found = memory.of_training([model], training, inputs, torch.float32, 0, frozen=frozen_names(model, training))

    assert found.sample < whole.sample / 10
    assert found.models < whole.models / 2


def test_the_names_are_those_that_a_user_knows() -> None:
    wrapped = ColourInput(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)))
    training = TrainingSpec.model_validate({"freeze": ["0.*"]})

    freeze(wrapped, training)

    assert frozen_names(wrapped, training) == {"model.0.weight", "model.0.bias"}
    with pytest.raises(InvalidSpec, match=r"training\.freeze: 'x\.\*' matches no parameter; did you mean"):
        freeze(wrapped, TrainingSpec.model_validate({"freeze": ["x.*"]}))


def test_frozen_recurrent_layers_stay_in_training_mode_for_cudnn() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(2, 2, dropout=0.0), "norm": nn.LayerNorm(2), "head": nn.Linear(2, 2)})
    training = TrainingSpec.model_validate({"freeze": ["rnn.*", "norm.*"]})

    freeze(model, training)
    Stack([model], frozen_names(model, training)).train(mode=True)

    assert [model[name].training for name in ("rnn", "norm", "head")] == [True, False, True]
