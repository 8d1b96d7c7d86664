"""What workers tell Prometheus, scraped from real processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import free_port, lines_of, pool_process

#: Training samples of scikit-learn's digits.
SAMPLES = 1_438

WaitUntil = Callable[[Callable[[], Any], str], Any]


def scrape(address: str) -> dict[tuple[str, ...], float]:
    """Each sample of a worker by its name and its labels, these in order; none while it does not answer."""
    try:
        with urlopen(address, timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
    except URLError:
        return {}
    return {
        (sample.name.removeprefix("distill_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_worker_tells_prometheus_what_it_did_through_deaths_of_its_child_and_of_itself(
    start_stack: Callable[..., LocalStack],
    make_spec: Callable[..., PipelineSpec],
    training_worker: Callable[..., Child],
    wait_until: WaitUntil,
) -> None:
    stack = start_stack(workers=1, settings={"metrics_port": free_port(), "threads": 1})
    client, (address,) = PipelineClient(stack.settings), stack.metrics
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 30, "batch_size": 16}}
    pipeline = client.submit(make_spec(teacher=teacher)).id
    worker = training_worker(stack, client, pipeline)
    waiting = client.submit(make_spec()).id

    # While it works.
    before = wait_until(lambda: (now := scrape(address)).get(("queue_length", "any")) and now, "the queue is measured")
    assert before["tasks_running",] == 1
    assert before["samples_total", "train_teacher"] > 0
    assert before["queue_wait_seconds_count", "any"] == 2

    # Its child dies: no count is lost, and the death is one of them.
    pool_process(worker).kill()
    wait_until(lambda: client.status(waiting).finished and client.status(pipeline).finished, "all is done")
    after = wait_until(lambda: (now := scrape(address)).get(("tasks_running",)) == 0 and now, "it is idle")
    assert after["attempts_total", "train_teacher"] == 3
    assert after["attempts_lost_total", "death", "train_teacher"] == 1
    assert after["stages_total", "train_teacher", "computed"] == 2
    assert after["stages_total", "train_teacher", "failed"] == 0
    assert after["stages_total", "prepare_data", "computed"] == 1
    assert after["stages_total", "prepare_data", "found"] == 1
    assert after["stage_seconds_count", "train_teacher"] == 2
    assert after["samples_total", "train_teacher"] >= before["samples_total", "train_teacher"] + 2 * SAMPLES
    assert after["samples_total", "soft_labels"] == 2 * SAMPLES
    assert after["lease_renewals_total",] >= len(lines_of(stack, "lease", "taken"))
    begun = len(lines_of(stack, "Task distill.", "received"))
    assert after["queue_wait_seconds_count", "any"] == begun - 1, "not of the one that was delivered again"

    # It dies itself: the next one has its port at once, although the child still held what it had inherited.
    psutil.Process(worker.pid).kill()
    wait_until(lambda: not worker.alive, "the worker is dead")
    stack.tend()
    assert wait_until(lambda: scrape(address), "the next worker serves")["broker_connections_total",] <= 1
    assert not lines_of(stack, "no metrics at")
