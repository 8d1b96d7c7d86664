"""Messages as they lie in the broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.celery_app import create_app, seconds_due
from distill_queue.shared.broker.fields import DUE
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec


@pytest.mark.parametrize(("countdown", "due"), [(None, 0.0), (30.0, 30.0)])
def test_a_message_says_since_when_it_waits_also_when_it_is_sent_again(
    settings: Settings, countdown: float | None, due: float
) -> None:
    app = create_app(settings, keeps_results=False)

    app.send_task("distill.report", queue="any", countdown=countdown, headers={DUE: 1.0})

    with redis.Redis(**settings.broker.redis_options) as client:
        message: Any = client.lindex("any", -1)
    headers = json.loads(message)["headers"]
    assert headers[DUE] == pytest.approx(time.time() + due, abs=5.0)


def test_a_waiting_pipeline_takes_less_than_ten_kilobytes(
    settings: Settings, make_spec: Callable[..., PipelineSpec]
) -> None:
    client = PipelineClient(settings)
    client.submit(make_spec())

    with redis.Redis(**settings.broker.redis_options) as broker:
        before = broker.info("memory")["used_memory"]
        for _ in range(50):
            client.submit(make_spec())
        used = broker.info("memory")["used_memory"] - before

    assert used < 50 * 10_000


def test_nobody_waits_for_less_than_no_time_whatever_the_clocks_say() -> None:
    assert seconds_due({DUE: time.time() + 60.0}) == 0.0
    assert seconds_due({DUE: time.time() - 60.0}) == pytest.approx(60.0, abs=5.0)
    assert seconds_due({}) is None
