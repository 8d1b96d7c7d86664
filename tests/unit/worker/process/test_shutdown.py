"""The seconds in which a worker ends, and for which the programs that start workers wait."""

from __future__ import annotations

from pathlib import Path

from distill_queue.scheduler.stack.child import STOP_SECONDS
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.settings import Settings
from distill_queue.worker.process.shutdown import (
    GONE_SECONDS,
    HAND_BACK_SECONDS,
    LAST_SECONDS,
    LONGEST_SECONDS,
    PUT_BACK_SECONDS,
)

#: What a busy machine may add.
SPARE_SECONDS = 1.0


def test_whoever_starts_a_worker_waits_for_longer_than_it_takes_to_end() -> None:
    longest = HAND_BACK_SECONDS + LAST_SECONDS + GONE_SECONDS + PUT_BACK_SECONDS

    assert longest == LONGEST_SECONDS
    assert longest + SPARE_SECONDS <= STOP_SECONDS


def test_what_a_busy_child_holds_is_put_back_before_the_worker_ends(tmp_path: Path) -> None:
    app = create_app(Settings(store=tmp_path))

    assert app.conf.worker_soft_shutdown_timeout + SPARE_SECONDS <= LAST_SECONDS
