"""The decoupled divergence in its limits."""

from __future__ import annotations

import torch
from hypothesis import given

from distill_queue.worker.losses import (
    dkd,
    kl,
)
from tests.unit.worker.losses.every_loss import (
    PLAIN,
    batch,
    examples,
    seeds,
    temperatures,
)


@examples
@given(temperature=temperatures, seed=seeds)
def test_dkd_is_kl_when_the_others_weigh_what_the_teacher_gives_them(temperature: float, seed: int) -> None:
    student, teacher, targets = batch(seed)
    others = 1.0 - torch.softmax(teacher / temperature, 1)[torch.arange(8), targets]

    rows = [
        dkd(s[None], t[None], y[None], temperature=temperature, target_weight=1.0, others_weight=weight)
        for s, t, y, weight in zip(student, teacher, targets, others.tolist(), strict=True)
    ]

    expected = kl(student, teacher, temperature=temperature)
    torch.testing.assert_close(torch.stack(rows).mean(), expected, rtol=1e-4, atol=1e-4)


def test_dkd_of_two_classes_has_nothing_among_the_others() -> None:
    student, teacher, targets = batch(classes=2)

    losses = [
        dkd(student, teacher, targets, temperature=2.0, target_weight=1.0, others_weight=weight)
        for weight in (0.0, 1000.0)
    ]

    assert torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0], kl(student, teacher, temperature=2.0))


def test_dkd_takes_the_teachers_choice_for_the_target_of_an_unlabelled_row() -> None:
    student, teacher, targets = batch()
    unlabelled = torch.where(torch.arange(8) < 4, -1, targets)
    chosen = torch.where(torch.arange(8) < 4, teacher.argmax(1), targets)
    assert (student.argmax(1) != teacher.argmax(1))[:4].any()

    loss = PLAIN["dkd"](student, teacher, unlabelled, 2.0, 1.0)

    assert torch.equal(loss, PLAIN["dkd"](student, teacher, chosen, 2.0, 1.0))
