"""Objectives whose temperature and alpha change over the steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.worker.data.batches import Batch
from distill_queue.worker.training.objective import Goal, Objective

ANNEALED = {"temperature": {"from": 8.0, "to": 2.0}, "alpha": {"from": 1.0, "to": 0.5}}
CPU = torch.device("cpu")


def goal(**distillation: Any) -> Goal:
    return Goal(DistillationSpec.model_validate(distillation))


def batch(members: int) -> tuple[torch.Tensor, Batch]:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(1, 6, 4, generator=generator).expand(members, -1, -1) for _ in range(2))
    targets = torch.tensor([[0, 1, 2, 3, -1, 0]]).expand(members, -1)
    return logits, Batch(torch.zeros(members, 6, 1), targets, teacher, None, None)


@pytest.mark.parametrize(("step", "numbers"), [(0, (8.0, 1.0)), (5, (5.0, 0.75)), (10, (2.0, 0.5))])
@pytest.mark.parametrize("loss", ["kd", "dkd", "dist"])
def test_temperature_and_alpha_go_along_a_line_from_the_first_step_to_the_last(
    loss: str, step: int, numbers: tuple[float, float]
) -> None:
    temperature, alpha = numbers
    fixed = goal(loss=loss, temperature=temperature, alpha=alpha)
    changing = goal(loss=loss, **ANNEALED)
    alone, together = Objective([changing], CPU), Objective([changing, fixed, changing], CPU)

    for objective in (alone, together):
        objective.go_to(step, 11)

    expected = Objective([fixed], CPU)(*batch(1))
    torch.testing.assert_close(alone(*batch(1)), expected)
    torch.testing.assert_close(together(*batch(3)), expected.expand(3))


def test_a_training_of_a_single_step_has_the_first_values() -> None:
    objective = Objective([goal(**ANNEALED)], CPU)

    objective.go_to(0, 1)

    torch.testing.assert_close(objective(*batch(1)), Objective([goal(temperature=8.0, alpha=1.0)], CPU)(*batch(1)))
