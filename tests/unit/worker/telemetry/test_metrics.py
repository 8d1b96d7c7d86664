"""Counts on their way from a worker's processes to Prometheus."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from distill_queue.shared.settings import Settings
from distill_queue.worker.telemetry.exporter import Exporter
from distill_queue.worker.telemetry.metrics import Count, Metrics, kind_of


def value(exporter: Exporter, name: str, **labels: str) -> float | None:
    return exporter.registry.get_sample_value(f"distill_{name}", labels)


def test_what_a_child_counted_before_it_was_killed_arrives() -> None:
    metrics = Metrics(on=True)
    child = os.fork()
    if not child:
        metrics.note("samples", "distill", value=640)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    metrics.note("attempts", "distill")

    counts = metrics.counts()
    assert [next(counts), next(counts)] == [Count("samples", ["distill"], 640), Count("attempts", ["distill"], 1.0)]


def test_nobody_waits_for_a_main_process_that_does_not_read() -> None:
    metrics = Metrics(on=True)

    for number in range(10_000):
        metrics.note("samples", "distill", value=number)

    counts = metrics.counts()
    assert [next(counts).value for _ in range(100)] == list(range(100)), "what fitted into the pipe is whole"


def test_without_a_port_nothing_is_kept() -> None:
    metrics = Metrics(on=False)

    metrics.note("stages", "report", "found")

    assert not metrics.on
    assert list(metrics.counts()) == []


def test_counters_add_histograms_observe_and_gauges_are_set() -> None:
    exporter = Exporter("worker-1@here")

    for seconds in (0.2, 700.0):
        exporter.add(Count("queue_wait_seconds", ["gpu"], seconds))
        exporter.add(Count("queue_length", ["gpu"], seconds))
        exporter.add(Count("samples", ["distill"], 64))
    exporter.add(Count("leases_lost", [], 1))

    assert value(exporter, "queue_wait_seconds_count", queue="gpu") == 2
    assert value(exporter, "queue_wait_seconds_bucket", queue="gpu", le="600.0") == 1
    assert value(exporter, "queue_length", queue="gpu") == 700
    assert value(exporter, "samples_total", kind="distill") == 128
    assert value(exporter, "leases_lost_total") == 1


def test_a_first_failure_is_an_increase() -> None:
    exporter = Exporter("worker-1@here")

    assert value(exporter, "stages_total", kind="distill", outcome="failed") == 0
    assert value(exporter, "attempts_lost_total", kind="distill", cause="death") == 0


def test_a_port_that_is_taken_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", logger="distill_queue.worker.telemetry.exporter")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        Exporter("worker-1@here").start(Settings(metrics_port=port), Metrics(on=False))

    (record,) = caplog.records
    message = f"no metrics at 127.0.0.1:{port}: Address already in use: set DISTILL_METRICS_PORT"
    assert record.getMessage() == message


def test_rubbish_is_of_an_unknown_kind() -> None:
    assert kind_of({"recipe": {"kind": "distill"}}) == "distill"
    assert [kind_of(message) for message in ({}, {"recipe": 1}, {"recipe": {"kind": []}})] == ["unknown"] * 3
