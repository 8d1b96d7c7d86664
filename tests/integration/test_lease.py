"""Leases on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.shared.broker.connection import connect, unchecked_client
from distill_queue.shared.errors import LeaseLost, StageFailed
from distill_queue.shared.settings import Settings
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.telemetry.metrics import Metrics

WaitUntil = Callable[[Callable[[], Any], str], Any]


def sent(leases: Leases, key: str) -> list[str]:
    messages: list[str] = []
    leases.unpark(key, messages.append)
    return messages


@pytest.fixture
def leases(settings: Settings) -> Leases:
    """Leases that last a second."""
    return Leases(
        connect(settings),
        connect(settings),
        holding_seconds=1.0,
        renewal_seconds=0.1,
        metrics=Metrics(on=False),
        instance="a",
    )


def test_a_key_has_one_holder_and_the_others_are_parked(leases: Leases) -> None:
    assert leases.acquire("k", "worker", "task-1", "first") is not None

    assert leases.acquire("k", "worker", "task-2", "second") is None

    assert sent(leases, "k") == ["second"]
    assert leases.free_keys() == []


def test_a_holder_that_was_paused_for_too_long_notices_that_another_took_over(
    leases: Leases, settings: Settings, wait_until: WaitUntil
) -> None:
    client: Any = connect(settings)
    old = leases.acquire("k", "worker", "task-1", "message")
    assert old is not None

    with leases.kept(old):
        client.delete("distill:lease:k")
        client.set("distill:lease:k", "other/task-1/token")
        wait_until(old._lost.is_set, "the old holder notices")
        with pytest.raises(LeaseLost):
            old.check()
    assert client.get("distill:lease:k") == "other/task-1/token", "an old holder's end must not free a new one's lease"


def test_even_the_same_task_does_not_take_a_lease_from_a_living_holder(leases: Leases) -> None:
    held = leases.acquire("k", "worker", "task-1", "message")
    assert held is not None

    with leases.kept(held):
        assert leases.acquire("k", "other", "task-1", "message") is None


def test_a_lease_that_ran_out_while_the_broker_was_away_is_still_its_holders(
    leases: Leases, settings: Settings
) -> None:
    client: Any = connect(settings)
    held = leases.acquire("k", "worker", "task-1", "message")
    assert held is not None
    client.delete("distill:lease:k")

    held.confirm()

    assert client.get("distill:lease:k") == held.holder


def test_the_lease_of_a_dead_child_is_released_by_its_own_worker_only(leases: Leases) -> None:
    leases.acquire("k", "worker-1@host", "task-1", "message")

    assert not leases.release_of_the_dead("k", "worker-1", "task-1")
    assert not leases.release_of_the_dead("k", "worker-1@host", "task-2")
    assert leases.release_of_the_dead("k", "worker-1@host", "task-1")


def test_a_lease_is_renewed_while_it_is_kept(leases: Leases, settings: Settings, wait_until: WaitUntil) -> None:
    client: Any = connect(settings)
    lease = leases.acquire("k", "worker", "task-1", "message")
    assert lease is not None

    with leases.kept(lease):
        client.pexpire("distill:lease:k", 600)
        wait_until(lambda: client.pttl("distill:lease:k") > 700, "the lease is renewed")

    assert not client.exists("distill:lease:k")


def test_what_a_dead_holder_left_waiting_is_found(leases: Leases, wait_until: WaitUntil) -> None:
    leases.acquire("k", "worker", "dead", "message")
    leases.acquire("k", "worker", "task-2", "message")

    wait_until(lambda: leases.free_keys() == ["k"], "the dead holder's lease runs out")


def test_of_many_workers_one_looks_for_what_a_dead_holder_left(leases: Leases, settings: Settings) -> None:
    client: Any = connect(settings)
    leases.acquire("k", "worker", "dead", "message")
    leases.acquire("k", "worker", "task-2", "message")
    client.delete("distill:lease:k")

    assert leases.free_keys() == ["k"]
    assert leases.free_keys() == []


def test_a_key_is_listed_for_as_long_as_a_task_waits_for_it(leases: Leases, settings: Settings) -> None:
    client: Any = connect(settings)
    leases.acquire("k", "worker", "task-1", "first")
    for number in (2, 3):
        leases.acquire("k", "worker", f"task-{number}", "message")
    sending = iter((lambda: None, lambda: leases.acquire("k", "worker", "task-4", "late")))

    leases.unpark("k", lambda _: next(sending)())
    listed = client.smembers("distill:parked")
    leases.unpark("k", lambda _: None)

    assert listed == {"k"}
    assert not client.exists("distill:parked")


def test_a_message_that_is_parked_again_while_it_is_sent_is_not_forgotten(leases: Leases) -> None:
    leases.acquire("k", "worker", "task-1", "first")
    leases.acquire("k", "worker", "task-2", "second")

    leases.unpark("k", lambda _: leases.acquire("k", "worker", "task-2", "second"))

    assert sent(leases, "k") == ["second"]
    assert sent(leases, "k") == []


def test_the_child_of_a_dead_worker_gives_its_lease_up(
    leases: Leases, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = leases.acquire("k", "worker", "task-1", "message")
    assert held is not None

    with leases.kept(held):
        monkeypatch.setattr("os.getppid", lambda: 1)

        wait_until(lambda: held.lost, "its thread sees that the parent is another one")
    with pytest.raises(LeaseLost):
        held.check()


@pytest.fixture
def attempts(settings: Settings) -> Attempts:
    """Three attempts."""
    return Attempts(connect(settings), connect(settings, retries=0), 3, 60, "a")


def test_attempts_that_get_further_are_not_counted(attempts: Attempts) -> None:
    for _ in range(5):
        attempts.begin(["k"], "worker")
        attempts.got_further(["k"], "worker")
        attempts.blame(["k"], "worker", "killed")

    attempts.begin(["k"], "worker")
    attempts.blame(["k"], "worker", "killed")
    attempts.begin(["k"], "worker")
    attempts.blame(["k"], "worker", "killed")
    for _ in range(2):  # One that is refused is not counted.
        with pytest.raises(
            StageFailed, match=r"after 3 attempts: 1\. on worker: killed; 2\. on worker: killed; 3\. on"
        ):
            attempts.begin(["k"], "worker")


def test_a_stage_that_gets_further_does_not_wait_for_a_broker_that_is_away(settings: Settings) -> None:
    nobody = settings.model_copy(update={"broker_url": "redis+socket:///nobody/listens"})
    away = unchecked_client(nobody, retries=0)
    attempts = Attempts(connect(settings), away, 3, 60, "a")
    attempts.begin(["k"], "worker")

    attempts.got_further(["k"], "worker")

    assert attempts.begin(["k"], "worker") == 2, "the old count stands"


def test_only_the_stage_of_a_bundle_that_had_begun_is_blamed(attempts: Attempts) -> None:
    for _ in range(3):
        attempts.begin(["guilty"], "worker")
        attempts.blame(["guilty", "innocent"], "worker", "killed")

    attempts.begin(["innocent"], "worker")
    with pytest.raises(StageFailed):
        attempts.begin(["guilty"], "worker")


def test_an_attempt_is_ended_as_its_own_though_another_worker_has_begun_since(settings: Settings) -> None:
    frozen, next_one = (Attempts(connect(settings), connect(settings), 3, 60, name) for name in "ab")
    frozen.begin(["k"], "same-name")
    next_one.begin(["k"], "same-name")

    frozen.blame(["k"], "same-name", "froze")
    next_one.withdraw(["k"], "same-name")

    assert next_one.begin(["k"], "same-name") == 2, "the frozen one is counted, the one withdrawn is not"
    with pytest.raises(StageFailed, match=r"1\. on same-name: froze; 2\. on same-name: died with its worker; 3"):
        [next_one.begin(["k"], "same-name") for _ in range(3)]


def test_a_worker_does_not_give_up_the_lease_of_another_of_its_name(settings: Settings) -> None:
    both = [Leases(connect(settings), connect(settings), 60.0, 6.0, Metrics(on=False), name) for name in "ab"]
    assert both[1].acquire("k", "same-name", "task", "message")

    assert not both[0].release_of_the_dead("k", "same-name", "task")
    assert both[1].held("k")
    assert both[1].release_of_the_dead("k", "same-name", "task")
