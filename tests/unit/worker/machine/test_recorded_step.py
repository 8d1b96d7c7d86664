"""What is recorded and what is not; the recording itself is tested where there is a card (`tests/gpu`)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_queue.worker.machine.memory import Need
from distill_queue.worker.machine.recorded_step import RecordedStep, can_repeat, has_room
from distill_queue.worker.models import Cnn, Ensemble, Mlp, Resnet


class Own(Cnn):
    """A model of a user's, made from one of ours."""


MLP, CNN = Mlp(4, (3,), 2), Cnn(1, 4, 1, 2)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([MLP], True),
        ([MLP, MLP], True),
        ([CNN], True),
        ([Resnet(1, 8, 2)], True),
        ([Own(1, 4, 1, 2)], False),
        ([nn.Sequential(nn.Linear(4, 2))], False),
        ([Ensemble([MLP], [1.0], probabilities=False)], False),
        ([MLP, nn.Linear(4, 2)], False),
    ],
    ids=["mlp", "stack", "cnn", "resnet", "made from ours", "own", "several teachers", "one of two"],
)
def test_only_models_of_our_families_can_be_recorded(models: list[nn.Module], expected: bool) -> None:
    assert can_repeat(models) == expected


@pytest.mark.parametrize(
    ("data", "models", "batch", "streamed", "expected"),
    [
        (100, 100, 100, False, True),
        (100, 100, 126, False, False),
        (600, 100, 100, False, True),
        (601, 100, 100, False, False),
        (5_000, 100, 100, True, True),
        (5_000, 750, 100, True, False),
    ],
    ids=["small", "a large batch", "just twice", "not twice", "streamed", "streamed, not twice"],
)
def test_a_step_is_recorded_where_its_batch_is_small_and_fits_twice(
    data: int, models: int, batch: int, streamed: bool, expected: bool
) -> None:
    need = Need(data, models, sample=batch, batch_size=1)

    assert has_room(need, 1_000, streamed=streamed) == expected


def test_batches_of_another_size_are_taken_as_they_are() -> None:
    take, taken = RecordedStep(batch_size=8), []

    def step(*parts: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        taken.append(parts)
        return (torch.ones(()) * len(taken),)

    batches = [(torch.ones(1, 5, 2), None, torch.zeros(1, 5)) for _ in range(6)]

    outcomes = [take(step, *batch)[0].item() for batch in batches]

    assert outcomes == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert all(one[2] is other[2] for one, other in zip(taken, batches, strict=True))
