"""Workers whose sets of texts have no order of their own, and those that say that theirs have."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.stack.child import Child, celery_command
from distill_queue.shared.settings import Settings

CELERY = [str(Path(sys.executable).with_name("celery")), "-A", "distill_queue.worker.app"]
OPTIONS = ("worker", "-Q", "cpu", "-l", "INFO")


@pytest.mark.parametrize(
    ("command", "seed", "warns"),
    [([*CELERY, *OPTIONS], None, True), ([*CELERY, *OPTIONS], "0", False), (celery_command(*OPTIONS), None, False)],
    ids=["celery", "celery with a seed", "python -m distill_queue.worker"],
)
def test_only_a_worker_without_a_seed_warns_that_sets_have_an_order_of_its_own(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[[Callable[[], Any], str], Any],
    command: list[str],
    seed: str | None,
    warns: bool,
) -> None:
    if seed is None:
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    else:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    log = tmp_path / "log"
    worker = Child("worker", command, settings.environment, log)

    worker.start()
    try:
        wait_until(lambda: worker.worked, "it works")
    finally:
        worker.ask_to_end()
        worker.end(deadline=float("inf"))

    assert ("PYTHONHASHSEED is not set" in log.read_text()) == warns
    assert worker.exit_code == 0, os.linesep + log.read_text()
