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


GROUPS = [torch.arange(100), torch.tensor([100, 101, 102]), torch.tensor([103])]


def by_class(*seeds: int, samples: int = 60) -> Orders:
    return Orders(seeds, samples, [GROUPS] * len(seeds))


def test_an_epoch_shows_each_group_equally_often_and_small_ones_over_and_over() -> None:
    drawn = by_class(3)

    rows = drawn.draw()[0]
    counts = torch.bincount(rows, minlength=104)

    assert [int(counts[group].sum()) for group in GROUPS] == [20, 20, 20]
    assert counts[:100].max() == 1, "none of a large group is shown twice"
    assert sorted(counts[GROUPS[1]].tolist()) == [6, 7, 7]
    assert not torch.equal(rows, drawn.draw()[0])
    assert not torch.equal(rows.sort().values, rows), "groups are mixed"


def test_what_is_left_of_an_epoch_goes_to_some_groups() -> None:
    counts = torch.bincount(by_class(3, samples=61).draw()[0], minlength=104)

    assert sorted(int(counts[group].sum()) for group in GROUPS) == [20, 20, 21]


def test_groups_are_drawn_by_the_seed_alone_and_drawn_again_after_a_stop() -> None:
    alone, together, resumed = by_class(3), by_class(7, 3), by_class(3)
    first, second = alone.draw(), alone.draw()
    together.draw(), together.draw()

    resumed.load(together.states[1:])

    assert torch.equal(resumed.draw(), second)
    assert not torch.equal(first, second)
