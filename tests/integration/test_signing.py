"""Messages are obeyed if their sender has the signing key, and refused if not: through a real broker and worker."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from scheduler.client import PipelineClient
from scheduler.doctor import examine
from scheduler.waiting import reasons
from shared.errors import Untrusted
from shared.ledger import connect
from shared.refusals import Refusal, Refusals
from shared.settings import Settings
from shared.spec import PipelineSpec
from shared.status import PipelineStatus
from shared.submissions import Submissions
from worker.app import create

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
KEY, OTHER = "a key of enough letters", "another key of enough letters"


def having(settings: Settings, *keys: str) -> Settings:
    return Settings(**settings.model_dump(exclude={"signing_key"}), signing_key=",".join(keys))


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker in a thread of this process."""
    app = create(settings)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield
    del app
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


@pytest.fixture
def signed(settings: Settings) -> Settings:
    """Settings with a signing key."""
    return having(settings, KEY)


@pytest.fixture
def refusals(settings: Settings) -> Refusals:
    """What workers refused."""
    return Refusals(connect(settings))


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def queued(settings: Settings) -> dict[str, Any]:
    """The one message in the queue `any`, taken out of it."""
    broker: Any = connect(settings)
    (text,) = broker.lrange("any\x06\x166", 0, -1)
    broker.delete("any\x06\x166")
    return json.loads(text)


def put(settings: Settings, message: dict[str, Any] | str) -> None:
    broker: Any = connect(settings)
    broker.lpush("any\x06\x166", message if isinstance(message, str) else json.dumps(message))


def refused(refusals: Refusals, wait_until: WaitUntil, count: int = 1) -> Refusal:
    wait_until(lambda: refusals.count >= count, "the message is refused")
    assert refusals.count == count
    assert refusals.last is not None
    return refusals.last


def test_signed_pipelines_are_computed_chords_results_and_all(
    signed: Settings, refusals: Refusals, make_spec: MakeSpec
) -> None:
    client = PipelineClient(signed)
    with working(signed):
        status = finish(client, client.submit(make_spec()).id)
        again = client.retry(status.id)

        assert status.state == finish(client, again.id).state == "done"
    assert refusals.count == 0
