"""What is counted of an epoch, and which epoch is the best."""

from __future__ import annotations

import pytest
import torch

from distill_queue.worker.training.epochs.curves import Curve, Point, Tally, hits_of

CPU = torch.device("cpu")


def logits_for(answers: list[int]) -> torch.Tensor:
    """Logits `[1, batch, 3]` whose largest ones are at the answers."""
    return torch.nn.functional.one_hot(torch.tensor([answers]), 3).float()


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples_though_its_last_batch_is_short() -> None:
    tally = Tally(sizes=[4, 4, 1], labelled=[9, 9], device=CPU)

    for step, losses in enumerate(([1.0, 0.0], [1.0, 0.0], [10.0, 9.0])):
        tally.note(step, torch.tensor(losses), torch.zeros(2))

    losses, _, _ = tally.sum_up()
    assert losses == pytest.approx([18 / 9, 9 / 9])


def test_samples_without_a_label_count_neither_as_right_nor_as_wrong() -> None:
    tally = Tally(sizes=[4], labelled=[2], device=CPU)

    tally.note(0, torch.zeros(1), hits_of(logits_for([0, 1, 2, 0]), torch.tensor([[0, 2, -1, -1]])))

    assert tally.sum_up()[1] == [0.5]


def test_each_epoch_is_counted_anew() -> None:
    tally = Tally(sizes=[2], labelled=[2], device=CPU)
    tally.note(0, torch.ones(1), hits_of(logits_for([1, 1]), torch.tensor([[1, 1]])))
    tally.sum_up()

    tally.note(0, torch.ones(1), hits_of(logits_for([1, 1]), torch.tensor([[1, 0]])))

    assert tally.sum_up()[1] == [0.5]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_the_first_step_is_told_whose_loss_is_not_finite(bad: float) -> None:
    tally = Tally(sizes=[2, 2, 2], labelled=[6, 6], device=CPU)

    for step, loss in enumerate((1.0, bad, bad)):
        tally.note(step, torch.tensor([1.0, loss]), torch.zeros(2))

    assert tally.sum_up()[2] == [None, 1]


def test_losses_that_are_not_finite_are_left_out_where_their_steps_are_skipped_if_others_are() -> None:
    tally = Tally(sizes=[2, 2, 4], labelled=[8], device=CPU, skipping=True)
    epochs = []

    for losses in ([1.0, torch.inf, 4.0], [torch.nan, torch.inf, torch.inf]):
        for batch, loss in enumerate(losses):
            tally.note(batch, torch.tensor([loss]), torch.zeros(1))
        epochs.append(tally.sum_up())

    assert epochs[0] == ([(2 * 1.0 + 4 * 4.0) / 6], [0.0], [None])
    assert epochs[1][2] == [0]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([], 0), ([0.1], 1), ([0.1, 0.3, 0.2], 2), ([0.1, 0.3, 0.3], 2), ([0.0, 0.0], 1), ([None, None], 1)],
)
def test_the_best_epoch_is_the_first_with_the_highest_held_out_accuracy(
    accuracies: list[float | None], best: int
) -> None:
    curve = Curve([Point(1.0, 0.5, accuracy) for accuracy in accuracies])

    assert curve.best_epoch == best
    assert curve.epochs_since_best == len(accuracies) - best
