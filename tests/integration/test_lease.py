"""Leases on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import LeaseLost
from shared.ledger import connect
from shared.settings import Settings
from worker.lease import Leases

WaitUntil = Callable[[Callable[[], Any], str], Any]


@pytest.fixture
def leases(settings: Settings) -> Leases:
    """Leases that last a second."""
    return Leases(connect(settings), timeout_seconds=1.0)


def test_a_key_has_one_holder_and_the_others_are_parked(leases: Leases) -> None:
    assert leases.acquire("k", "task-1", "first") is not None

    assert leases.acquire("k", "task-2", "second") is None

    assert leases.parked("k") == ["second"]
    assert leases.free_keys() == []


def test_a_redelivered_task_takes_over_its_own_lease_and_the_old_holder_notices(
    leases: Leases, wait_until: WaitUntil
) -> None:
    old = leases.acquire("k", "task-1", "message")
    assert old is not None

    with leases.kept(old):
        new = leases.acquire("k", "task-1", "message")
        assert new is not None
        wait_until(old._lost.is_set, "the old holder notices")
        with pytest.raises(LeaseLost):
            old.check()
    assert leases.acquire("k", "task-2", "message") is None, "an old holder's end must not free a new holder's lease"


def test_a_lease_is_renewed_while_it_is_kept(leases: Leases, settings: Settings, wait_until: WaitUntil) -> None:
    client: Any = connect(settings)
    lease = leases.acquire("k", "task-1", "message")
    assert lease is not None

    with leases.kept(lease):
        client.pexpire("distill:lease:k", 600)
        wait_until(lambda: client.pttl("distill:lease:k") > 700, "the lease is renewed")

    assert not client.exists("distill:lease:k")


def test_what_a_dead_holder_left_waiting_is_found(leases: Leases, wait_until: WaitUntil) -> None:
    leases.acquire("k", "dead", "message")
    leases.acquire("k", "task-2", "message")

    wait_until(lambda: leases.free_keys() == ["k"], "the dead holder's lease runs out")
