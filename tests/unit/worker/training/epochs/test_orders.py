"""In which order samples are seen."""

from __future__ import annotations

import torch

from distill_queue.worker.training.epochs.orders import Orders
from distill_queue.worker.training.epochs.pools import Pool

SAMPLES = 20


def orders(*seeds: int, pool: Pool | None = None) -> Orders:
    return Orders(seeds, SAMPLES, [pool] * len(seeds))


def test_an_epoch_shows_each_sample_once_and_each_epoch_in_another_order() -> None:
    drawn = orders(3)

    first, second = drawn.draw(), drawn.draw()

    assert sorted(first[0].tolist()) == sorted(second[0].tolist()) == list(range(SAMPLES))
    assert not torch.equal(first, second)


def test_a_member_sees_the_same_order_alone_and_beside_others() -> None:
    alone, together = orders(3), orders(7, 3)

    for _ in range(2):
        assert torch.equal(alone.draw()[0], together.draw()[1])


def test_an_epoch_that_was_left_is_drawn_again_and_then_the_next_one() -> None:
    undisturbed, left, resumed = orders(3, 4), orders(3, 4), orders(3, 4)
    expected = [undisturbed.draw() for _ in range(3)]
    left.draw(), left.draw()

    resumed.load(left.states)

    assert torch.equal(resumed.draw(), expected[1])
    assert torch.equal(resumed.draw(), expected[2])


def test_after_an_epoch_that_was_ended_the_next_one_is_drawn() -> None:
    undisturbed, left, resumed = orders(3), orders(3), orders(3)
    expected = [undisturbed.draw() for _ in range(2)]
    left.draw()
    left.remember()

    resumed.load(left.states)

    assert torch.equal(resumed.draw(), expected[1])


def test_a_small_pool_is_gone_through_over_and_over_and_in_whole_before_it_is_again() -> None:
    pool = torch.tensor([2, 5, 11])

    rows = orders(3, pool=[pool]).draw()[0].tolist()

    assert len(rows) == SAMPLES
    for start in range(0, SAMPLES - 2, 3):
        assert sorted(rows[start : start + 3]) == pool.tolist()
