"""The squared difference of logits."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.worker.losses import (
    mse,
)
from tests.unit.worker.losses.every_loss import (
    batch,
)


def test_mse_is_torchs() -> None:
    student, teacher, _ = batch()

    loss = mse(student, teacher)

    torch.testing.assert_close(loss, functional.mse_loss(student, teacher))
